#!/usr/bin/env python3
"""A host that reports its DA layer to blocksyncd. Here DA is a directory: DIR/<DA height>/<index>, each file the bytes
that stand there. One JSON object a line on stdout.

    report_da.py SOCKET DIR    # everything above what was reported, and whatever the sidecar wants
"""

import asyncio, hashlib, json, pathlib, sys
import capnp
from blocksync import SCHEMA


def fields(message):
    """The fields of a protobuf message, by number. Raises for what is none."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        tag = varint()
        value = varint()
        if tag & 7 == 2:  # bytes, of this length
            if at + value > len(message):
                raise IndexError
            at, value = at + value, message[at:at + value]
        elif tag & 7 != 0:
            raise IndexError
        found[tag >> 3] = value
    return found


def sighting(da_height, index, found, chain_id):
    """What there is to report of these bytes: their digest, and the height that stands in them. A digest says what bytes
    they are, not what they are worth, so no signature has to be looked at here. What is no block of this chain by its own
    word is left out."""
    try:
        header = fields(fields(found)[1])
        if header[1] == chain_id.encode() and 0 < header[2] < 1 << 64:
            digest = hashlib.sha256(found).digest()
            return [{"daHeight": da_height, "index": index, "height": header[2], "what": {"digest": digest}}]
    except (IndexError, KeyError, TypeError):
        pass
    return []


async def give(reporter, info, place, found):
    """The bytes at one place, by themselves: a report that covers no DA height."""
    place = dict(zip(("daHeight", "index"), place))
    if len(found) + 1024 <= info.limits.maxReportBytes:
        return (await reporter.report(0, 0, [{**place, "what": {"signedBlock": found}}])).result
    result = (await reporter.upload({**place, "what": {"signedBlock": b""}}, len(found))).result
    if result.which() != "upload":
        sys.exit(f"not taken: {result}")
    piece = info.limits.maxInlineBytes
    for at in range(0, len(found), piece):
        await result.upload.write(at, found[at:at + piece])
    return (await result.upload.commit()).result


def heard(result):
    """Where the sidecar stands after a report: up to which DA height, and the places whose bytes it wants."""
    if result.which() == "outOfOrder":
        return result.outOfOrder, []
    if result.which() != "taken":
        sys.exit(f"not taken: {result}")
    taken = result.taken
    told = {"scannedThrough": taken.scannedThrough, "wanted": len(taken.wanted), "junk": taken.junk}
    print(json.dumps({"said": "taken", **told, "passedOver": taken.passedOver}), flush=True)
    return taken.scannedThrough, [(it.daHeight, it.index) for it in taken.wanted]


async def main(socket, directory):
    da = {(int(file.parent.name), int(file.name)): file for file in pathlib.Path(directory).glob("*/*")}
    stream = await capnp.AsyncIoStream.create_unix_connection(socket)
    sidecar = capnp.TwoPartyClient(stream).bootstrap().cast_as(SCHEMA.BlockSync)
    hello = {"name": "report_da.py", "schemaRevision": SCHEMA.schemaRevision, "wantReporter": True}
    opened = (await sidecar.open(hello)).result
    if opened.which() != "granted":
        sys.exit(f"not granted: {opened}")
    reporter, info = opened.granted.reporter, opened.granted.info
    if info.daEvidence != "block":  # there a name is this host's word, by its chain's own rule, which this one does not know
        sys.exit("this chain's DA is told by names")

    top, given = max((place[0] for place in da), default=0), set()
    at = (await reporter.position()).scannedThrough
    result = (await reporter.report(at, at, [])).result  # covers nothing: is anything wanted from before?
    while True:
        at, wanted = heard(result)  # whatever was reported, it goes on from where the answer stands
        wanted = [place for place in wanted if place in da and place not in given]
        if wanted:
            given.add(wanted[0])
            result = await give(reporter, info, wanted[0], da[wanted[0]].read_bytes())
        elif at < top:
            here = sorted(place for place in da if place[0] == at + 1)
            found = [sighting(*place, da[place].read_bytes(), info.chainId) for place in here]
            result = (await reporter.report(at, at + 1, sum(found, []))).result
        else:
            return


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(capnp.run(main(*sys.argv[1:])))
