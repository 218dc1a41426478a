import '@/theme/base.css'
import './phone.css'
import { createApp } from 'vue'
import PhonePage from './PhonePage.vue'

createApp(PhonePage).mount('#app')
