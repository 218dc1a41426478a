import { defineAsyncComponent } from 'vue'

/** The drawing library is large: it comes with the first curve. */
export const CurveChart = defineAsyncComponent(() => import('./CurveChart.vue'))
