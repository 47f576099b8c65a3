/**
 * Receives Callsheet's webhooks in PayloadCMS 3: copy this file into the project, and add to its config
 *
 *   plugins: [callsheet({ secrets: [process.env.CALLSHEET_WEBHOOK_SECRET!] })]
 *
 * The callback URL of tasks is then <server>/api/webhooks/task-complete. Each task has a document in
 * the collection callsheet-tasks that says how it is, with the media document of its first artifact.
 *
 * Every webhook is checked (Standard Webhooks), taken once (by its webhook-id), and never set back by
 * an older one (by sequence and time). One that fails halfway may come again: it is noted as taken
 * only after the document was written.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

import type { CollectionConfig, Endpoint, Payload, PayloadRequest, Plugin } from 'payload'

export type CallsheetOptions = {
  /** Secrets of the project, `whsec_…`: give the old and the new one while one is being replaced. */
  secrets: string[]
  /** Slug of the media collection that artifacts are registered in. */
  media?: string
  /** Slug of the collection of tasks that is added. */
  tasks?: string
  /** Slug of the collection of webhooks that were taken that is added. */
  taken?: string
}

/** What a webhook says; the README of the sidecar explains each field. */
export type TaskWebhook = {
  task_id: string
  project_id: string
  event: 'queued' | 'started' | 'progress' | 'retrying' | 'cancelled' | 'completed' | 'failed'
  status: string
  sequence: number
  attempt: number
  occurred_at: string
  result: {
    media_url: string | null
    payload_media_id: string | null
    metadata: Record<string, unknown>
  } | null
  error: { reason: string; message: string; retryable: boolean } | null
  metadata: Record<string, unknown>
}

type Settings = Required<CallsheetOptions>
type TaskDocument = { id: number | string; epoch: string; sequence: number; occurredAt: string }

const TOLERANCE_SECONDS = 300
const LARGEST_BODY = 1024 * 1024
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/

/** Adds the collections and the endpoint to a config. */
export const callsheet =
  (options: CallsheetOptions): Plugin =>
  (config) => {
    const settings: Settings = {
      media: 'media',
      tasks: 'callsheet-tasks',
      taken: 'callsheet-webhooks',
      ...options,
    }
    if (settings.secrets.length === 0) throw new Error('callsheet: at least one secret is needed')
    settings.secrets.forEach(keyOf) // one that is none is found at the start, not by a webhook
    return {
      ...config,
      collections: [...(config.collections ?? []), tasks(settings), taken(settings)],
      endpoints: [...(config.endpoints ?? []), receiver(settings)],
    }
  }

/** Whether somebody who knows one of the secrets signed this body under these headers just now. */
export function isGenuine(
  headers: Headers,
  body: string,
  secrets: string[],
  now: Date = new Date(),
): boolean {
  const id = headers.get('webhook-id') ?? ''
  const timestamp = headers.get('webhook-timestamp') ?? ''
  const age = now.getTime() / 1000 - Number(timestamp)
  if (!id || !/^\d{1,12}$/.test(timestamp) || Math.abs(age) > TOLERANCE_SECONDS) return false
  // Several signatures stand side by side while a secret is being replaced; one that fits is enough.
  const given = (headers.get('webhook-signature') ?? '')
    .split(' ')
    .filter((signature) => signature.startsWith('v1,'))
    .map((signature) => Buffer.from(signature.slice(3), 'base64'))
  return secrets.some((secret) => {
    const made = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest()
    return given.some((one) => one.length === made.length && timingSafeEqual(one, made))
  })
}

function keyOf(secret: string): Buffer {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  if (key.length < 16) throw new Error('callsheet: a webhook secret is whsec_ and base64')
  return key
}

function receiver(settings: Settings): Endpoint {
  // Webhooks of one task come in order, but a repeated one may overlap with its first try.
  const busy = new Map<string, Promise<unknown>>()
  return {
    path: '/webhooks/task-complete',
    method: 'post',
    handler: async (req) => {
      if (Number(req.headers.get('content-length') ?? 0) > LARGEST_BODY) return refused(413)
      const body = (await req.text?.()) ?? ''
      if (!isGenuine(req.headers, body, settings.secrets)) return refused(401)
      const webhook = parsed(body)
      if (webhook === null) return refused(400)
      const id = req.headers.get('webhook-id') ?? ''
      const before = busy.get(webhook.task_id) ?? Promise.resolve()
      const mine = before.catch(() => undefined).then(() => take(req, id, webhook, settings))
      busy.set(webhook.task_id, mine)
      try {
        return Response.json({ outcome: await mine })
      } finally {
        if (busy.get(webhook.task_id) === mine) busy.delete(webhook.task_id)
      }
    },
  }
}

async function take(
  req: PayloadRequest,
  id: string,
  webhook: TaskWebhook,
  settings: Settings,
): Promise<'applied' | 'duplicate' | 'stale'> {
  const { payload } = req
  const seen = await payload.find({
    collection: settings.taken,
    where: { webhookId: { equals: id } },
    limit: 1,
    depth: 0,
    req,
  })
  if (seen.docs.length > 0) return 'duplicate'
  const [known] = (
    await payload.find({
      collection: settings.tasks,
      where: { taskId: { equals: webhook.task_id } },
      limit: 1,
      depth: 0,
      req,
    })
  ).docs as unknown as TaskDocument[]
  const epoch = id.split('_', 1)[0] ?? ''
  if (known !== undefined && !isNewer(webhook, epoch, known)) return 'stale'
  const data = await documentOf(payload, webhook, epoch, settings)
  if (known === undefined) await payload.create({ collection: settings.tasks, data, req })
  else await payload.update({ collection: settings.tasks, id: known.id, data, req })
  await payload.create({
    collection: settings.taken,
    data: { webhookId: id, taskId: webhook.task_id, event: webhook.event },
    req,
  })
  return 'applied'
}

/** Sequences of two epochs do not compare: the ledger was restored in between. */
function isNewer(webhook: TaskWebhook, epoch: string, known: TaskDocument): boolean {
  const later = webhook.occurred_at > known.occurredAt // as texts: a Date has no microseconds
  if (known.epoch !== epoch) return later
  return webhook.sequence === known.sequence ? later : webhook.sequence > known.sequence
}

async function documentOf(
  payload: Payload,
  webhook: TaskWebhook,
  epoch: string,
  settings: Settings,
): Promise<Record<string, unknown>> {
  return {
    taskId: webhook.task_id,
    project: webhook.project_id,
    status: webhook.status,
    event: webhook.event,
    sequence: webhook.sequence,
    epoch,
    attempt: webhook.attempt,
    occurredAt: webhook.occurred_at,
    mediaUrl: webhook.result?.media_url ?? null,
    media: await mediaOf(payload, webhook.result?.payload_media_id ?? null, settings),
    result: webhook.result,
    error: webhook.error,
    metadata: webhook.metadata,
  }
}

/** The id as this database has it, or null when somebody has deleted the document meanwhile. */
async function mediaOf(
  payload: Payload,
  given: string | null,
  settings: Settings,
): Promise<number | string | null> {
  if (given === null) return null
  const id = payload.db.defaultIDType === 'number' ? Number(given) : given
  const found = await payload.findByID({
    collection: settings.media,
    id,
    depth: 0,
    disableErrors: true,
  })
  return found === null ? null : id
}

function parsed(body: string): TaskWebhook | null {
  try {
    const webhook = JSON.parse(body)
    const isOne =
      typeof webhook?.task_id === 'string' &&
      Number.isInteger(webhook.sequence) &&
      INSTANT.test(webhook.occurred_at)
    return isOne ? webhook : null
  } catch {
    return null
  }
}

function refused(status: 400 | 401 | 413): Response {
  const reasons = { 400: 'not a webhook', 401: 'not genuine', 413: 'too large' }
  return Response.json({ error: reasons[status] }, { status })
}

const signedIn = ({ req }: { req: PayloadRequest }): boolean => Boolean(req.user)
const nobody = (): boolean => false

function tasks(settings: Settings): CollectionConfig {
  return {
    slug: settings.tasks,
    admin: { useAsTitle: 'taskId', defaultColumns: ['taskId', 'status', 'project', 'occurredAt'] },
    access: { read: signedIn, create: nobody, update: nobody, delete: signedIn },
    fields: [
      { name: 'taskId', type: 'text', required: true, unique: true, index: true },
      { name: 'project', type: 'text', index: true },
      { name: 'status', type: 'text', index: true },
      { name: 'event', type: 'text' },
      { name: 'sequence', type: 'number', required: true },
      { name: 'epoch', type: 'text', required: true },
      { name: 'attempt', type: 'number' },
      // A text: a date would be cut to milliseconds, and two events may share one.
      { name: 'occurredAt', type: 'text', required: true },
      { name: 'mediaUrl', type: 'text' },
      { name: 'media', type: 'upload', relationTo: settings.media },
      { name: 'result', type: 'json' },
      { name: 'error', type: 'json' },
      { name: 'metadata', type: 'json' },
    ],
  }
}

function taken(settings: Settings): CollectionConfig {
  return {
    slug: settings.taken,
    admin: { hidden: true },
    access: { read: signedIn, create: nobody, update: nobody, delete: signedIn },
    fields: [
      { name: 'webhookId', type: 'text', required: true, unique: true, index: true },
      { name: 'taskId', type: 'text', index: true },
      { name: 'event', type: 'text' },
    ],
  }
}
