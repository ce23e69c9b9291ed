// A js-libp2p peer for the interop tests. It reports events as lines of JSON on stdout.
//
//   node peer.mjs listen noise|tls            listens on loopback until its stdin ends
//   node peer.mjs dial noise|tls MULTIADDR    runs every check of a dialler, and ends
import { createHash, randomBytes } from 'node:crypto'

// libp2p 3 needs this function of Node 22, which Node 20 lacks. So libp2p is imported below, after this.
Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }))
  return parts
}

const [{ createLibp2p }, { tcp }, { noise }, { yamux }, { tls }, { ping }, { identify }, { multiaddr }] =
  await Promise.all([
    import('libp2p'), import('@libp2p/tcp'), import('@chainsafe/libp2p-noise'), import('@chainsafe/libp2p-yamux'),
    import('@libp2p/tls'), import('@libp2p/ping'), import('@libp2p/identify'), import('@multiformats/multiaddr')
  ])

const ECHO = '/pea2pea/echo/1.0.0'
const MIB = 1024 * 1024
const [role, security, target] = process.argv.slice(2)
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')

const node = await createLibp2p({
  addresses: { listen: role === 'listen' ? ['/ip4/127.0.0.1/tcp/0'] : [] },
  transports: [tcp()],
  connectionEncrypters: [security === 'tls' ? tls() : noise()],
  streamMuxers: [yamux()],
  connectionMonitor: { enabled: false },
  connectionGater: { denyDialMultiaddr: () => false },
  services: { ping: ping(), identify: identify() }
})
node.addEventListener('peer:identify', ({ detail }) => say({
  event: 'identify', peer: detail.peerId.toString(), agent: detail.agentVersion ?? '', protocols: detail.protocols
}))
await node.handle(ECHO, async (stream) => {
  for await (const part of stream) {
    if (!stream.send(part)) await stream.onDrain()
  }
  await stream.close()
})

// Sends `size` bytes and reads them back at the same time; returns whether the digests are equal.
async function echoed (connection, size) {
  const stream = await connection.newStream(ECHO)
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  const writing = (async () => {
    for (let left = size; left > 0; left -= MIB) {
      const part = randomBytes(Math.min(MIB, left))
      sent.update(part)
      if (!stream.send(part)) await stream.onDrain()
    }
    await stream.close()
  })()
  let count = 0
  for await (const part of stream) {
    const bytes = part.subarray()
    count += bytes.length
    received.update(bytes)
  }
  await writing
  return count === size && sent.digest('hex') === received.digest('hex')
}

async function dial () {
  const address = multiaddr(target)
  const connection = await node.dial(address)
  say({ event: 'connected', peer: connection.remotePeer.toString(), encryption: connection.encryption })
  for (let n = 0; n < 3; n++) say({ event: 'ping', ms: await node.services.ping.ping(address) })
  try {
    await connection.newStream('/pea2pea/unknown/1.0.0')
    say({ event: 'unknown', error: null })
  } catch (error) {
    say({ event: 'unknown', error: error.name })
  }
  say({ event: 'big', ok: await echoed(connection, 64 * MIB) })
  const several = await Promise.all(Array.from({ length: 8 }, () => echoed(connection, MIB)))
  say({ event: 'several', ok: several.every(Boolean), count: several.length })
  // The identify service runs on its own; this runs it again, and waits for the answer.
  const answer = await node.services.identify.identify(connection)
  say({ event: 'asked', agent: answer.agentVersion ?? '', protocols: answer.protocols })
}

if (role === 'listen') {
  say({ event: 'ready', peer: node.peerId.toString(), address: node.getMultiaddrs()[0].toString() })
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('end', resolve))
} else {
  try {
    await dial()
  } catch (error) {
    say({ event: 'error', error: `${error.name}: ${error.message}` })
    process.exitCode = 1
  }
}
await node.stop()
process.exit()
