import '@/theme/base.css'
import { createApp } from 'vue'
import ScanPage from './ScanPage.vue'

createApp(ScanPage).mount('#app')
