import '@/theme/base.css'
import { createApp } from 'vue'
import LoginPage from './LoginPage.vue'

createApp(LoginPage).mount('#app')
