import '@/theme/base.css'
import './phone.css'
import { createApp } from 'vue'
import PhonePage from './PhonePage.vue'

createApp(PhonePage).mount('#app')

// Phones bring a Chinese font; for those that do not, ours comes after the page is there, and only the characters it shows.
addEventListener('load', () => {
  const sheet = document.createElement('link')
  sheet.rel = 'stylesheet'
  sheet.href = '/fonts/noto-sans-sc.css'
  // Text that was drawn before the sheet came is drawn anew only when its list of fonts changes.
  sheet.onload = () => (document.documentElement.dataset.fonts = 'ready')
  document.head.append(sheet)
})
