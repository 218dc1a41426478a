import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'
import { VitePWA } from 'vite-plugin-pwa'
import { fonts } from './build/fonts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const server = process.env.GRIDWARDEN_WEB ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [
    vue(),
    fonts(),
    VitePWA({
      strategies: 'injectManifest',
      srcDir: 'src/sw',
      filename: 'sw.ts',
      injectRegister: null, // the phone page registers it itself, for its own scope only
      manifest: false, // public/phone.webmanifest, linked by the phone page only
      injectManifest: {
        globPatterns: ['phone.html', 'phone.webmanifest', 'icons/*.png', 'assets/*.{js,css}'],
        // What the phone page needs without a network, and nothing of the other pages: what its own file names.
        manifestTransforms: [
          (entries) => {
            const page = readFileSync(here('./dist/phone.html'), 'utf8')
            return { manifest: entries.filter((one) => !one.url.startsWith('assets/') || page.includes(one.url)) }
          },
        ],
      },
    }),
  ],
  resolve: { alias: { '@': here('./src') } },
  build: {
    target: 'es2022',
    chunkSizeWarningLimit: 1300,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: {
        login: here('./index.html'),
        wall: here('./wall.html'),
        phone: here('./phone.html'),
        cameras: here('./cameras.html'),
        engineer: here('./engineer.html'),
        scan: here('./scan.html'),
      },
      output: {
        codeSplitting: {
          includeDependenciesRecursively: false,
          groups: [
            { name: 'vue', test: /node_modules[\\/](@vue|vue)[\\/]/ },
            { name: 'map', test: /node_modules[\\/](maplibre-gl|@maplibre|@mapbox)/ },
            { name: 'chart', test: /node_modules[\\/](echarts|zrender|tslib)|src[\\/]chart[\\/](engine|option|curve|CurveChart)/ },
            // What the wall and the engineers' page share; the phone never loads it.
            { name: 'things', test: /src[\\/](command|water|parking|form)[\\/]/ },
          ],
        },
      },
    },
  },
  server: { proxy: { '/api': { target: server, ws: true } } },
})
