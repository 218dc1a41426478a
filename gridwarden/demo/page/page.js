// Wall and phone side by side, with two log-ins, and buttons that make things happen in the simulated street.
const actions = [
  { name: 'drop_rubbish', zh: '乱扔垃圾', en: 'Drop rubbish' },
  { name: 'park_here', zh: '违停一辆车', en: 'Park here' },
  { name: 'gather', zh: '聚集人群', en: 'Gather' },
  { name: 'light_smoke', zh: '点燃烟雾', en: 'Light smoke' },
  { name: 'raise_river', zh: '抬高水位', en: 'Raise the river' },
]
const words = {
  zh: { sent: '已发生', watch: '约 30 秒内墙上应出现案件', failed: '未能执行', expired: '登录链接已失效，请重新启动演示', other: 'English' },
  en: { sent: 'It happened', watch: 'an incident should appear on the wall within 30 s', failed: 'Could not do it', expired: 'The log-in links were used up: start the demo again', other: '中文' },
}
let language = localStorage.getItem('gw-demo-language') || 'zh'
const told = document.getElementById('told')
const nav = document.getElementById('buttons')

function draw() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en'
  for (const element of document.querySelectorAll('[data-zh]')) element.textContent = element.dataset[language]
  for (const button of nav.children) button.textContent = actions.find(a => a.name === button.dataset.name)[language]
  document.getElementById('language').textContent = words[language].other
}

async function act(action, button) {
  button.disabled = true
  try {
    const answer = await fetch(`/demo/act/${action.name}`, { method: 'POST' })
    const body = await answer.json()
    if (!answer.ok) throw new Error(body.detail || answer.statusText)
    told.textContent = `${words[language].sent}: ${body[language] || body.what || action[language]} — ${words[language].watch}`
  } catch (error) {
    told.textContent = `${words[language].failed}: ${error.message}`
  } finally {
    setTimeout(() => { button.disabled = false }, 1500)
  }
}

async function enter(seat, token) {
  const answer = await fetch('/api/v1/login/link', {
    method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Seat': seat }, body: JSON.stringify({ token, seat }),
  })
  if (answer.ok) return true
  return (await fetch('/api/v1/me', { headers: { 'X-Seat': seat } })).ok // a reload: the session is still there
}

// Chinese without a Chinese font on the machine: the slices that the pages use, fetched as their characters are needed.
async function addFonts() {
  const answer = await fetch('/fonts/unicode.json')
  if (!answer.ok) return
  for (const [slice, range] of Object.entries(await answer.json())) {
    const number = slice.replace(/[^0-9]/g, '')
    const file = number ? `noto-sans-sc-${number}-400-normal.woff2` : `noto-sans-sc-${slice}-400-normal.woff2`
    document.fonts.add(new FontFace('Noto Sans SC', `url(/fonts/${file})`, { unicodeRange: range }))
  }
}
addFonts()

for (const action of actions) {
  const button = document.createElement('button')
  button.type = 'button'
  button.dataset.name = action.name
  button.addEventListener('click', () => act(action, button))
  nav.append(button)
}
document.getElementById('language').addEventListener('click', () => {
  language = language === 'zh' ? 'en' : 'zh'
  localStorage.setItem('gw-demo-language', language)
  draw()
})
draw()

const [wallToken, phoneToken] = location.hash.slice(1).split('.')
history.replaceState(null, '', location.pathname)
const wall = await enter('wall', wallToken || '')
const phone = await enter('phone', phoneToken || '')
if (!wall || !phone) told.textContent = words[language].expired
document.getElementById('wall').src = '/wall'
document.getElementById('phone').src = '/phone'
