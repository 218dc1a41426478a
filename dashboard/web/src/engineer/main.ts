import '@/theme/base.css'
import './engineer.css'
import { createApp } from 'vue'
import './words'
import EngineerPage from './EngineerPage.vue'

createApp(EngineerPage).mount('#app')
