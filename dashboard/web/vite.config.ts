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
        // What the phone page needs without a network: not the wall, not the map engine, not the fonts.
        globPatterns: ['phone.html', 'phone.webmanifest', 'icons/*.png', 'assets/*.{js,css}'],
        globIgnores: ['assets/wall-*', 'assets/engine-*', 'assets/map-*', 'assets/login-*', 'assets/maplibre*'],
      },
    }),
  ],
  resolve: { alias: { '@': here('./src') } },
  build: {
    target: 'es2022',
    chunkSizeWarningLimit: 1300,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { login: here('./index.html'), wall: here('./wall.html'), phone: here('./phone.html') },
      output: {
        codeSplitting: { groups: [{ name: 'vue', test: /node_modules[\\/](@vue|vue)[\\/]/ }, { name: 'map', test: /node_modules[\\/](maplibre-gl|@maplibre|@mapbox)/ }] },
      },
    },
  },
  server: { proxy: { '/api': { target: server, ws: true } } },
})
