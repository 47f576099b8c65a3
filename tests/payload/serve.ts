// Serves PayloadCMS's REST API from here, without Next: Next's own route is a wrapper of the same function.
import http from 'node:http'
import { Readable } from 'node:stream'

import { getPayload, handleEndpoints } from 'payload'

import config from './payload.config.ts'

const payload = await getPayload({ config, cron: false })
const { totalDocs } = await payload.count({ collection: 'users' })
if (totalDocs === 0) {
  await payload.create({
    collection: 'users',
    data: {
      email: 'sidecar@example.test',
      password: crypto.randomUUID(),
      enableAPIKey: true,
      apiKey: process.env.PAYLOAD_API_KEY,
    },
  })
}

const server = http.createServer(async (asked, answered) => {
  try {
    const headers = new Headers()
    for (const [name, value] of Object.entries(asked.headers)) headers.set(name, String(value))
    const hasBody = asked.method !== 'GET' && asked.method !== 'HEAD'
    const body = hasBody ? (Readable.toWeb(asked) as ReadableStream) : undefined
    // Node asks for duplex when a body is streamed; the types of browsers do not know it.
    const init = { method: asked.method, headers, body, duplex: 'half' }
    const request = new Request(`http://${asked.headers.host}${asked.url}`, init)
    const response = await handleEndpoints({ config, request })
    answered.writeHead(response.status, Object.fromEntries(response.headers))
    answered.end(Buffer.from(await response.arrayBuffer()))
  } catch (error) {
    console.error(error)
    answered.writeHead(500).end()
  }
})
server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const address = server.address()
  console.log(`ready on ${typeof address === 'object' ? address?.port : address}`)
})
