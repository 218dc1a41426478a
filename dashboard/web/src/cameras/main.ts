import '@/theme/base.css'
import { createApp } from 'vue'
import CamerasPage from './CamerasPage.vue'

createApp(CamerasPage).mount('#app')
