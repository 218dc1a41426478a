import { addTexts } from '@/i18n'
import { enEngineer } from './en'
import { zhEngineer } from './zh'

addTexts({ 'zh-CN': zhEngineer, en: enEngineer })
