#!/usr/bin/env python3
"""A small host for blocksyncd. One JSON object a line on stdout.

    blocksync.py SOCKET publish FILE                  # as the next block
    blocksync.py SOCKET follow [COUNT [HEIGHT/HASH]]  # so many events (0: for ever), from a block of one's own on
"""

import asyncio, json, pathlib, sys, time
import capnp

SCHEMA = capnp.load(str(pathlib.Path(__file__).resolve().parents[2] / "schema" / "blocksync.capnp"))


def say(word, id, **more):
    print(json.dumps({"said": word, "height": id.height, "hash": id.hash.hex(), **more}), flush=True)


async def body(payload):
    if payload.which() == "inline":
        return payload.inline
    data, size = b"", (await payload.chunked.size()).bytes  # too large for one message
    while len(data) < size:
        data += (await payload.chunked.read(len(data), size - len(data))).data
    return data


async def follow(session, count="0", block=None):
    start = SCHEMA.StartPoint.new_message(genesis=None)
    if block:
        height, hash = block.split("/")
        resume = start.init("resume")
        resume.locator = [{"height": int(height), "hash": bytes.fromhex(hash)}]
        resume.givenFrom = int(height)  # `hard` is told from here on
    stream = (await session.observer.stream(start, SCHEMA.StreamOptions.new_message())).result.stream
    left = int(count) or float("inf")
    while left > 0:
        batch = (await stream.next(maxEvents=int(min(left, 100)), maxBytes=0, waitMs=30_000)).batch
        for event in batch.events:
            kind = event.which()
            if kind == "soft":
                say("soft", event.soft.id, bytes=len(await body(event.soft.payload)))
            elif kind == "hard":
                say("hard", event.hard.id, daHeight=event.hard.daHeight)
            elif kind == "retract":  # undo everything above this block, before anything else
                say("retract", event.retract.to)
            left -= 1
        if batch.phase == "draining":
            sys.exit("the sidecar is about to end: open again later")


async def publish(session, path):
    payload = pathlib.Path(path).read_bytes()
    result = await publish_once(session, payload)
    while result.which() == "notReady" and result.retryAfterMs:  # after a start its peers are heard first
        await asyncio.sleep(result.retryAfterMs / 1000)
        result = await publish_once(session, payload)
    if result.which() not in ("accepted", "duplicate"):
        sys.exit(f"not published: {result}")
    say("published", getattr(result, str(result.which())).id)


async def publish_once(session, payload):
    info = session.info
    block = {"height": max(info.heads.soft + 1, info.initialHeight), "timeUnixNanos": time.time_ns()}
    piece = info.limits.maxInlineBytes
    if len(payload) <= piece:
        return (await session.publisher.publish({**block, "payload": payload})).result
    upload = (await session.publisher.beginPublish(block, len(payload), False)).result.upload
    for at in range(0, len(payload), piece):
        await upload.write(at, payload[at:at + piece])
    return (await upload.commit()).result


async def main(socket, command, *args):
    stream = await capnp.AsyncIoStream.create_unix_connection(socket)
    sidecar = capnp.TwoPartyClient(stream).bootstrap().cast_as(SCHEMA.BlockSync)
    hello = {"name": "blocksync.py", "schemaRevision": SCHEMA.schemaRevision,
             "wantObserver": command == "follow", "wantPublisher": command == "publish"}
    result = (await sidecar.open(hello)).result
    if result.which() != "granted":
        sys.exit(f"not granted: {result}")
    await {"follow": follow, "publish": publish}[command](result.granted, *args)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in ("follow", "publish"):
        sys.exit(__doc__)
    asyncio.run(capnp.run(main(*sys.argv[1:])))
