import '@/theme/base.css'
import { createApp } from 'vue'
import WallPage from './WallPage.vue'

createApp(WallPage).mount('#app')
