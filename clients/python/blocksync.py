#!/usr/bin/env python3
"""A small host for blocksyncd: follows a sidecar's chain, or publishes into it. One JSON object a line on stdout.

    blocksync.py SOCKET info
    blocksync.py SOCKET follow [--from genesis|tip|HEIGHT/HASH] [--count N]
    blocksync.py SOCKET publish FILE [--host-id HEX]
"""

import argparse, asyncio, json, pathlib, sys, time
import capnp

SCHEMA = capnp.load(str(pathlib.Path(__file__).resolve().parents[2] / "schema" / "blocksync.capnp"))


def block_id(id):
    return {"height": id.height, "hash": id.hash.hex()}


async def read_all(reader):
    """A payload that does not fit into one message."""
    size, data = (await reader.size()).bytes, b""
    while len(data) < size:
        data += (await reader.read(offset=len(data), maxBytes=size - len(data))).data
    return data


async def describe(event):
    kind = event.which()
    if kind == "soft":
        payload = event.soft.payload
        data = payload.inline if payload.which() == "inline" else await read_all(payload.chunked)
        return {"event": "soft", **block_id(event.soft.id), "bytes": len(data)}
    if kind == "hard":
        return {"event": "hard", **block_id(event.hard.id), "daHeight": event.hard.daHeight}
    if kind == "retract":  # undo everything above this block, before anything else
        return {"event": "retract", **block_id(event.retract.to)}
    return {"event": str(kind)}


async def follow(session, args):
    start = SCHEMA.StartPoint.new_message()
    if "/" in args.start:
        height, hash = args.start.split("/")
        start.init("resume").locator = [{"height": int(height), "hash": bytes.fromhex(hash)}]
    else:
        setattr(start, args.start, None)
    options = SCHEMA.StreamOptions.new_message()
    result = (await session.observer.stream(start, options)).result
    if result.which() != "stream":
        sys.exit(f"no stream: {result}")
    left = args.count
    while left != 0:
        batch = (await result.stream.next(maxEvents=max(left, 0), maxBytes=0, waitMs=30_000)).batch
        for event in batch.events:
            print(json.dumps(await describe(event)), flush=True)
            left -= 1
        if str(batch.phase) == "draining":
            sys.exit("the sidecar is about to end")


async def publish(session, args):
    payload, limits = pathlib.Path(args.file).read_bytes(), session.info.limits
    block = {"height": max(session.info.heads.soft + 1, session.info.initialHeight),
             "timeUnixNanos": time.time_ns(), "hostId": bytes.fromhex(args.host_id)}
    if len(payload) <= limits.maxInlineBytes:
        result = (await session.publisher.publish({**block, "payload": payload})).result
    else:
        upload = (await session.publisher.beginPublish(block, len(payload), False)).result.upload
        for at in range(0, len(payload), limits.maxInlineBytes):
            await upload.write(at, payload[at:at + limits.maxInlineBytes])
        result = (await upload.commit()).result
    kind = result.which()
    answer = {"result": str(kind)}
    if kind in ("accepted", "duplicate"):
        answer |= block_id(getattr(result, str(kind)).id)
    print(json.dumps(answer), flush=True)
    return 0 if kind in ("accepted", "duplicate") else 1


async def main(args):
    stream = await capnp.AsyncIoStream.create_unix_connection(args.socket)
    sidecar = capnp.TwoPartyClient(stream).bootstrap().cast_as(SCHEMA.BlockSync)
    if args.command == "info":
        info = (await sidecar.info()).info
        print(json.dumps({"version": info.version, "chainId": info.chainId, "phase": str(info.phase),
                          "soft": info.heads.soft, "hard": info.heads.hard}))
        return 0
    hello = {"name": "blocksync.py", "schemaRevision": SCHEMA.schemaRevision,
             "wantObserver": args.command == "follow", "wantPublisher": args.command == "publish"}
    result = (await sidecar.open(hello)).result
    if result.which() != "granted":
        sys.exit(f"not granted: {result}")
    return await (follow if args.command == "follow" else publish)(result.granted, args)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info")
    following = commands.add_parser("follow")
    following.add_argument("--from", dest="start", default="genesis")
    following.add_argument("--count", type=int, default=-1, help="end after so many events")
    publishing = commands.add_parser("publish")
    publishing.add_argument("file")
    publishing.add_argument("--host-id", default="")
    sys.exit(asyncio.run(capnp.run(main(parser.parse_args()))))
