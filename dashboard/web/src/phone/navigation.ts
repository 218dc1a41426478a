/**
 * Links that open a map program. Coordinates are WGS 84 (within centimetres of CGCS2000), and each link says so: the
 * program converts to its own system, so nothing is 500 m off.
 */
export interface Destination {
  lon: number
  lat: number
  name: string
}

export function systemLink({ lon, lat, name }: Destination): string {
  return `geo:${lat},${lon}?q=${lat},${lon}(${encodeURIComponent(name)})`
}

/** `coordinate=wgs84`: Amap's own system is GCJ-02. */
export function amapLink({ lon, lat, name }: Destination): string {
  const query = new URLSearchParams({ to: `${lon},${lat},${name}`, mode: 'walk', coordinate: 'wgs84', callnative: '1' })
  return `https://uri.amap.com/navigation?${query.toString()}`
}

/** `coord_type=wgs84`: Baidu's own system is BD-09. */
export function baiduLink({ lon, lat, name }: Destination): string {
  const query = new URLSearchParams({
    destination: `latlng:${lat},${lon}|name:${name}`,
    mode: 'walking',
    coord_type: 'wgs84',
    output: 'html',
    src: 'gridwarden',
  })
  return `https://api.map.baidu.com/direction?${query.toString()}`
}
