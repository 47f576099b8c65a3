// A PayloadCMS as a project would have it: users with API keys, media, and the receiver of webhooks.
import { sqliteAdapter } from '@payloadcms/db-sqlite'
import { buildConfig } from 'payload'

import { callsheet } from './payload_webhooks.ts'

const signedIn = ({ req }: { req: { user?: unknown } }) => Boolean(req.user)

export default buildConfig({
  secret: 'the secret of a PayloadCMS for tests',
  telemetry: false,
  db: sqliteAdapter({ client: { url: 'file:./payload.db' }, push: true, wal: true }),
  upload: { limits: { fileSize: Number(process.env.LARGEST_BYTES) } },
  collections: [
    { slug: 'users', auth: { useAPIKey: true }, fields: [] },
    {
      slug: 'media',
      upload: { staticDir: './media' },
      access: { read: signedIn, create: signedIn, delete: signedIn },
      fields: [
        { name: 'alt', type: 'text', required: true },
        { name: 'sourceHash', type: 'text', unique: true, index: true },
        { name: 'sourceUrl', type: 'text' },
        { name: 'project', type: 'text', index: true },
        { name: 'taskId', type: 'text', index: true },
      ],
    },
  ],
  plugins: [callsheet({ secrets: (process.env.WEBHOOK_SECRETS ?? '').split(' ') })],
})
