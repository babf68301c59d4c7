@0xf7b7879a5269d537;
# The host's API of blocksyncd: Cap'n Proto RPC, two-party, over a Unix socket.
#
# This one file is the contract for every language. It carries no annotation of any language and imports nothing, so that
# each implementation can load it as it stands, or from a copy with its own annotations added.
#
# Conventions
# - Heights are rollup heights, at least 1; 0 means "none" where a field says so. DA heights are the DA layer's own.
# - Hashes are 32 bytes of SHA-256. Times are nanoseconds since the Unix epoch. Durations say their unit in their name.
# - An outcome that a host is expected to handle is an arm of a result union. Exceptions mean faults: `overloaded` (try
#   later), `disconnected` (open again), `unimplemented` (an older sidecar), `failed` (a bug, or a call that the
#   contract forbids).
# - Unions grow. What a reader does with an arm that it does not know is said at each union; where nothing is said, it
#   treats the whole result as a failure of that one call.
# - Every call may be repeated. No call holds resources after its answer, except through the capabilities it returns; to
#   drop a capability is to give it back.
# - One message is never larger than `Limits.maxMessageBytes`, in either direction.
# - A capability of a role is fenced when somebody else takes the role: its calls then fail with `disconnected`.

const schemaRevision :UInt32 = 2;
# Rises with every change of this file. From 2 on, changes only add.

interface BlockSync {
  # The bootstrap capability. Cheap; no effect on the chain.

  info @0 () -> (info :ServerInfo);
  # Who this is and where it stands. Never waits; fit for a health check.

  open @1 (hello :ClientHello) -> (result :OpenResult);
  # A host introduces itself and takes the roles that it wants.

  admin @2 () -> (admin :Admin);
  # For the operator. Whoever may open the socket is one.
}

struct ServerInfo {
  version @0 :Text;              # of the sidecar, as "0.1.0"
  schemaRevision @1 :UInt32;     # of the schema that it was built with
  features @2 :List(Text);       # names of optional abilities; unknown ones are to be ignored
  chainId @3 :Text;
  initialHeight @4 :UInt64;
  storeId @5 :Data;              # 16 bytes; differs after the database was made anew
  peerId @6 :Text;               # libp2p peer id, base58
  limits @7 :Limits;
  phase @8 :Phase;
  heads @9 :Heads;
  proposer @10 :Data;            # 32 bytes: the key that this node signs with; empty when it does not sign
  durability @11 :Durability;    # what a publish that was accepted survives
  maxBlockBytes @12 :UInt64;     # of the chain's largest block, as its genesis file says; Limits.maxBlockBytes may be lower
  daEvidence @13 :DaEvidence;    # what of DA decides; of the genesis file, too
}

enum DaEvidence {
  # A rule of the chain, the same at all its nodes and for ever. A reporter that does not know it reports nothing.
  block @0;                      # the bytes of signed blocks, as they stand on DA: DaSighting.signedBlock and .digest
  named @1;                      # what the hosts say that a blob stands for: DaSighting.hash, .hostId and .payloadHash
}

struct Limits {
  maxMessageBytes @0 :UInt64;    # a larger message ends the connection
  maxBlockBytes @1 :UInt64;      # of an encoded SignedBlock that this sidecar takes; never above ServerInfo.maxBlockBytes
  maxInlineBytes @2 :UInt64;     # a larger payload is published through an Upload, and read through a BytesReader
  maxEvents @3 :UInt32;          # in one batch of a stream
  maxWaitMs @4 :UInt32;          # longest long poll; a longer wish is shortened
  maxCalls @5 :UInt32;           # in flight on one connection; one more fails with `overloaded`
  maxReportBytes @6 :UInt64;     # of one report: what its sightings take in the message, and 128 bytes more for each. The bytes
                                 # of a block that does not fit are given with DaReporter.upload
}

enum Durability {
  power @0;                      # fsynced: survives a power cut
  process @1;                    # survives the death of the process, not of the machine
}

enum Phase {
  # A reader treats a phase that it does not know as `syncing`.
  waitingForPeers @0;            # nobody to sync from yet
  syncing @1;                    # behind the highest block that is proved to exist, and that somebody may lead to
  following @2;                  # at it
  halted @3;                     # publishing has stopped: see Status.halt
  draining @4;                   # about to end; open again later
}

struct Heads {
  # always: tail <= hard <= soft <= target, as far as each is there
  tail @0 :UInt64;               # lowest stored height
  hard @1 :UInt64;               # the highest block that DA has confirmed, by what DaEvidence says; 0: none yet
  hardHash @2 :Data;             # empty: none yet
  soft @3 :UInt64;               # 0: nothing stored yet
  softHash @4 :Data;
  target @5 :UInt64;             # the highest height that a sequencer's signature proves to exist; 0: none known
  epoch @6 :UInt64;              # rises when stored blocks are taken back
  scannedThrough @7 :UInt64;     # every DA height up to this one has been reported
}

struct ClientHello {
  name @0 :Text;                 # for logs, at most 64 bytes
  schemaRevision @1 :UInt32;     # that the client was built with; required: 0 is answered with clientTooOld
  chainId @2 :Text;              # empty: any
  wantObserver @3 :Bool;
  wantPublisher @4 :Bool;        # at most one publisher: the newest is it, older ones are fenced
  wantReporter @5 :Bool;         # likewise
  signer @6 :Signer;             # with wantPublisher: sign with this instead of a key file; null otherwise
}

struct OpenResult {
  union {
    granted @0 :Granted;
    wrongChain @1 :Text;         # the sidecar's chain id
    clientTooOld @2 :UInt32;     # the oldest schema revision that it still speaks
    serverTooOld @3 :UInt32;     # its own revision, where the client demands more than it can do
    busy @4 :Text;               # try again later; says why
    notSigner @5 :Text;          # the signer's key proposes at no height of this chain, or the sidecar has a key already
  }
}

struct Granted {
  observer @0 :Observer;         # each null unless asked for
  publisher @1 :Publisher;
  reporter @2 :DaReporter;
  info @3 :ServerInfo;
}

interface Signer {
  # Implemented by a host that keeps the proposer's key to itself. The sidecar calls it with one block at a time, and never
  # for two different blocks at one height.
  publicKey @0 () -> (publicKey :Data);                  # 32 bytes, ed25519
  sign @1 (message :Data, id :BlockId) -> (signature :Data);
  # `message` is the domain prefix "blocksync/block/v1\0" followed by the header bytes; 64 bytes come back. An exception
  # means "not now": the publish is answered with notReady.
}

struct BlockId {
  height @0 :UInt64;
  hash @1 :Data;                 # 32 bytes; empty where only the height is known or wanted
}

# ---------------------------------------------------------------------------------------------------------------------
# Observing

interface Observer {
  stream @0 (from :StartPoint, options :StreamOptions) -> (result :StreamResult);
  # The ordered events of the chain from a point on. Many streams may be open.

  block @1 (id :BlockId) -> (result :LookupResult);
  # By hash, by height, or by both, which must then agree.

  rejectBlock @2 (id :BlockId, reason :Text) -> (result :RejectResult);
  # "My execution refuses this block." The chain then ends at its parent, until DA or the operator decides.

  status @3 () -> (status :Status);
}

struct StartPoint {
  union {
    genesis @0 :Void;            # from the chain's initial height
    tip @1 :Void;                # only what is new from now on: `hard` too is told of nothing else
    resume @2 :Resume;           # from where the host itself stands
  }
}

struct Resume {
  # The host resumes from its own state. Events go on above the newest entry of `locator` that is on our chain; if that is
  # not the first entry, the first event is `retract` to it. What the host has is taken back only when the sidecar's own hard
  # block has decided between two branches, or when a block that the host names there was given up, because DA took it back
  # before or since an operator said so; and never below the block that the host calls hard.
  # While the sidecar is behind the host, or nothing is decided, the stream says nothing yet; the heads in its batches tell
  # how far the sidecar has come, and `waitsFor` what is missing.
  locator @0 :List(BlockId);     # the host's blocks, newest first; at most 64. One is enough; several, dense at first and
                                 # then sparser, let a rewind that the host has missed be found at once and end where it must
  hard @1 :BlockId;              # the newest block that the host knows to be hard; null or height 0: none
  givenFrom @2 :UInt64;          # from this height on the host was given each block up to its newest one: the first height
                                 # after the last `gap` that it was told, or the first one of a stream that began at `tip`,
                                 # and no higher than right above a `retract`; 0: from the initial height on. `hard` is told
                                 # of these blocks only
}

struct StreamOptions {
  consumer @0 :Text;             # a name, at most 64 bytes, makes `ack` durable; empty: no name
  withBodies @1 :Bool = true;    # false: soft events carry headers only
  softEvents @2 :Bool = true;    # false: a block is told when it becomes hard, soft and hard together
}

struct StreamResult {
  union {
    stream @0 :BlockStream;
    forkedBelowHard @1 :ForkedBelowHard;
    busy @2 :Text;               # too many streams; try again later
    invalid @3 :Text;            # the start point or the options make no sense
  }
}

struct ForkedBelowHard {
  # The block that the host calls hard is not on our chain. This is never answered with a rewind: one of the two follows
  # the wrong chain or the wrong DA, and an operator must find out which.
  theirs @0 :BlockId;
  ours @1 :BlockId;              # what we have at that height
}

interface BlockStream {
  # A cursor over the store: to leave it unread costs the sidecar nothing. Dropping it unsubscribes.

  next @0 (maxEvents :UInt32, maxBytes :UInt64, waitMs :UInt32) -> (batch :Batch);
  # Waits up to waitMs for at least one event. 0 for maxEvents or maxBytes means the limit. One call at a time.
  # In order, at least once, no gaps; hard(h) only of a block that the host was given, on this stream or before, and so never
  # of what lies in a `gap`; and it means that everything below h is hard, too.
  # `disconnected` ends the stream only: open a new one, from the host's own state. That is also how it ends when the sidecar
  # takes back what the host calls hard (after a backup of the sidecar's was put back): the host keeps what it has, and
  # the new stream says nothing until DA has decided; `forkedBelowHard` then, or it goes on.

  ack @1 (upTo :BlockId) -> (known :Bool);
  # "I have processed everything up to here." Durable when it returns, for named consumers: pruning waits for each of
  # them from its first ack on.
  # known = false: that block is not on our chain, or there are 256 consumers already (Admin.forgetConsumer); nothing was recorded.
}

struct Batch {
  events @0 :List(Event);        # empty: the wait was over, or `waitsFor` is another one now
  heads @1 :Heads;               # at the moment of the answer
  phase @2 :Phase;               # `draining`: no more will come; open again later
  waitsFor @3 :WaitsFor;         # null, unless the host has resumed where it cannot go on yet
}

struct WaitsFor {
  # What a stream waits for that says nothing yet. A reader that meets an arm it does not know waits on.
  union {
    sidecar @0 :Void;            # the sidecar has less than the host: it is to catch up with its peers or with DA. A publisher that
                                 # made these blocks publishes them again
    da @1 :Void;                 # the host and the sidecar are on two branches, or may be: DA is to decide, or an operator gives
                                 # one of them up
    name @2 :UInt64;             # The host opens another stream, and names its block at this height too. DA has decided there, so
                                 # that this block tells whether the host is on a branch that has lost, and is sent down, or only
                                 # ahead of the sidecar. It is asked for once, and again when DA has decided more
  }
}

struct Event {
  union {
    # A reader that meets an arm it does not know skips that event.
    soft @0 :Block;              # the next block: verified, linked, durable
    hard @1 :DaInclusion;        # the next block that DA has confirmed; follows its soft event. What was pruned before it
                                 # could be said is passed over: hard(h) says that everything below h is hard, too
    retract @2 :Retract;         # everything above `to` is taken back; undo it before anything else
    gap @3 :Gap;                 # blocks that this sidecar no longer has, or never had
    dataLoss @4 :Range;          # damage took these from the sidecar's store; they will be fetched again. Nothing is undone.
    equivocation @5 :Equivocation;   # the sequencer signed two blocks for one height; see Admin.evidence
    progress @6 :Void;           # nothing but newer heads in this batch
  }
}

struct Block {
  id @0 :BlockId;
  parentHash @1 :Data;           # empty at the initial height
  timeUnixNanos @2 :UInt64;
  hostId @3 :Data;
  proposer @4 :Data;
  header @5 :Data;               # the signed header bytes
  signature @6 :Data;
  payload :union {
    inline @7 :Data;
    omitted @8 :UInt64;          # its size in bytes: the stream was opened without bodies
    chunked @9 :BytesReader;     # larger than the call's maxBytes or Limits.maxInlineBytes
  }
  origin @10 :Origin;
}

enum Origin {
  unknown @0;
  published @1;                  # by this sidecar's own host
  gossip @2;
  range @3;                      # the range exchange between peers
  da @4;
}

interface BytesReader {
  size @0 () -> (bytes :UInt64);
  read @1 (offset :UInt64, maxBytes :UInt64) -> (data :Data);   # shorter at the end, empty beyond it
}

struct DaInclusion {
  # Why a block is hard. Two nodes that read the same DA from its beginning, or from true checkpoints, have the same hard blocks,
  # whatever their hosts reported by bytes or by digest and in whatever portions; with DaEvidence.named as far as the hosts
  # named the same.
  id @0 :BlockId;
  daHeight @1 :UInt64;           # 0: there is no position to tell, see `basis`
  index @2 :UInt32;              # as in DaSighting
  basis @3 :HardBasis;
}

enum HardBasis {
  # A reader treats a basis that it does not know as `trusted`.
  bytes @0;                      # the bytes at this position are this block's, and the sidecar has checked them; or their digest
                                 # is that of bytes of this block that it has checked
  named @1;                      # the host said that what stands at this position is this block; nobody has checked it
  implied @2;                    # it was never looked for on DA; a block above it is hard
  trusted @3;                    # the operator's word: the block of `sync.from` with @DA
}

struct Retract {
  to @0 :BlockId;                # the newest block that stays, which may be one of a gap; height 0: nothing stays
  epoch @1 :UInt64;
}

struct Gap {
  from @0 :UInt64;               # first missing height
  to @1 :UInt64;                 # last missing height; soft(to + 1) follows. Should the sidecar get them later, the host is
                                 # told neither `soft` nor `hard` for them
}

struct Range {
  from @0 :UInt64;               # inclusive
  to @1 :UInt64;                 # inclusive
}

struct Equivocation {
  height @0 :UInt64;
  first @1 :Data;                # hash
  second @2 :Data;               # hash
}

struct LookupResult {
  union {
    found @0 :FoundBlock;
    notFound @1 :Void;           # not on our chain, as far as we have it
    pruned @2 :UInt64;           # below our tail, whose height this is. Of what was pruned nothing is known by its hash
  }
}

struct FoundBlock {
  block @0 :Block;
  inclusion @1 :DaInclusion;     # null: not hard yet
}

struct RejectResult {
  union {
    stopped @0 :Void;            # the chain ends at its parent until DA or the operator decides
    notFound @1 :Void;
    hard @2 :Void;               # DA has decided already: the host has to be repaired, not the chain
  }
}

# ---------------------------------------------------------------------------------------------------------------------
# Publishing

interface Publisher {
  publish @0 (block :ProposedBlock) -> (result :PublishResult);
  # Answers when the block is durable. The same ProposedBlock on the same parent always gives the same hash: to repeat a call
  # whose answer was lost is safe and right.

  publishSigned @1 (signedBlock :Data) -> (result :PublishResult);
  # A block that the host has signed itself: an encoded SignedBlock of block.proto.

  beginPublish @2 (block :ProposedBlock, payloadBytes :UInt64, signed :Bool) -> (result :BeginResult);
  # For what does not fit into one message. `block.payload` is empty; with `signed` the upload is an encoded SignedBlock
  # and `block` is ignored.
}

struct ProposedBlock {
  height @0 :UInt64;
  parentHash @1 :Data;           # the host's idea of the parent; empty: whatever is there
  timeUnixNanos @2 :UInt64;      # chosen by the host, not before the parent's; part of the hash
  hostId @3 :Data;               # the rollup's own block id, at most 64 bytes; may be empty
  payload @4 :Data;
}

struct PublishResult {
  union {
    # A publisher treats an arm that it does not know as `invalid`.
    accepted @0 :Published;      # durable, and on its way to the peers
    duplicate @1 :Published;     # the very same block was here already; broadcast once more
    conflict @2 :BlockId;        # another block is stored, or was signed, at this height. Nothing has changed
    notNext @3 :BlockId;         # height: the one that can be published now; hash: of the parent it must have
    invalid @4 :Text;            # the block itself is wrong; repeating it is useless (one whose time is ahead of our clock is notReady)
    tooLarge @5 :UInt64;         # Limits.maxBlockBytes
    notReady @6 :Text;           # not yet: says what is waited for
    halted @7 :Text;             # publishing has stopped until an operator acts: says why
    storageFull @8 :Void;        # free disk space is below the reserve, or store.max_bytes is reached and nothing may be
                                 # pruned yet; goes on by itself
    overloaded @9 :UInt32;       # try again after so many milliseconds
    draining @10 :Void;          # the sidecar is about to end
  }
  retryAfterMs @11 :UInt32;      # with notReady: it will not be long, try again after so many milliseconds (after a start the
                                 # peers are asked for their heads first); 0: it depends on what is waited for
}

struct Published {
  id @0 :BlockId;
  signedBlock @1 :Data;          # the encoded SignedBlock, ready to be posted to DA; empty when it is larger than
                                 # Limits.maxInlineBytes: read it through `reader`
  reader @2 :BytesReader;        # null unless signedBlock is empty
  durability @3 :Durability;
}

struct BeginResult {
  union {
    upload @0 :Upload;
    tooLarge @1 :UInt64;
    overloaded @2 :UInt32;
    invalid @3 :Text;
  }
}

interface Upload {
  # Dropping it before `commit` forgets it.
  write @0 (offset :UInt64, data :Data) -> (received :UInt64);   # in order, without gaps; at most Limits.maxInlineBytes
  commit @1 () -> (result :PublishResult);                       # when all bytes are there
}

# ---------------------------------------------------------------------------------------------------------------------
# Reporting DA

interface DaReporter {
  # For hosts that watch their DA layer themselves, whatever it is.
  #
  # The host finds and carries, and the sidecar decides: by position on DA, from what is there, and never on the reporter's
  # word. For that the host answers for these things, and for no others:
  # - Nothing is left out. Everything in the chain's place on DA is reported that may be a block of this chain by block.proto,
  #   whoever proposes there, whatever its time, and however often it is there. What may be left out: bytes that are no
  #   SignedBlock of this chain's id, or larger than ServerInfo.maxBlockBytes, or not signed by the proposer that they name.
  #   Whether that proposer may propose, only the sidecar knows: its schedule may grow.
  # - Each sighting has its position, which is the same whichever host of the chain reports it, and whenever.
  # - A digest, and the height beside it, are read off the bytes that stand there. A digest is a statement of what bytes stand
  #   there; it says nothing of what they are worth, and the host need not know: the sidecar takes it for the block of which
  #   it has the same bytes, checked, and asks for the bytes otherwise.
  # - With DaEvidence.named there is nothing that the sidecar could check. There a name says that the chain's own rule takes
  #   this blob as its block of that height: the host applies that rule, signatures and all, and names one blob for each height.

  report @0 (after :UInt64, scannedThrough :UInt64, sightings :List(DaSighting)) -> (result :ReportResult);
  # "This is everything that I found above DA height `after`, up to and including `scannedThrough`." Durable when it returns.
  # DA heights are reported in order and without omission, at most 1,048,576 of them at a time; to report some again is harmless.
  # Sightings of DA heights above `scannedThrough` may come ahead of their turn, and those at or below `after` again. What was
  # said of a place ahead of its turn counts until something else is said of it, and need not be said again.
  # With `after` and `scannedThrough` both where the last answer stands the report covers nothing: so the bytes of what is
  # `wanted` are given, in as many calls as it takes, and so it is asked what is wanted.
  # Whatever was reported: the next one goes on above the DA height in the *answer*, which may have gone back.

  position @1 () -> (scannedThrough :UInt64);
  # From which DA height (this one, plus one) to go on.

  upload @2 (sighting :DaSighting, bytes :UInt64) -> (result :UploadSightingResult);
  # For the bytes of a block that does not fit into one report: `sighting` says where it stands, with an empty signedBlock.
  # It is reported when the upload is committed, as by a report that covers nothing.
}

struct DaSighting {
  daHeight @0 :UInt64;           # at least 1, below 2^63
  index @1 :UInt32;              # where it stands within that DA height. Numbers rise in the order of DA, and may be left out;
                                 # what number a place has does not depend on what the host thinks of what stands there
  height @2 :UInt64;             # the rollup height: with `digest` the one that stands in the bytes' header, with a name the one
                                 # that is named. With signedBlock it may be 0; otherwise it must be the bytes' own
  what :union {
    # An arm of the other DaEvidence than the chain's is refused.
    signedBlock @3 :Data;        # block: the bytes that stand there, whatever they are
    digest @4 :Data;             # block: the SHA-256 of these bytes, all of them, the signature too. Enough for bytes that the
                                 # sidecar has. Not for bytes in which no height can be read: those are given themselves
    hash @5 :Data;               # named: this block's hash
    hostId @6 :Data;             # named: the rollup's own id, at most 64 bytes
    payloadHash @7 :Data;        # named: the SHA-256 of the payload
  }
}

struct ReportResult {
  union {
    # A host treats an arm that it does not know as `refused`.
    taken @0 :ReportTaken;
    outOfOrder @1 :UInt64;       # `after` is above this DA height, up to which DA was reported: what lies between may decide, so
                                 # nothing was taken. Report on from the DA height after this one
    refused @2 :ReportRefusal;   # nothing of it was taken
  }
}

struct ReportTaken {
  scannedThrough @0 :UInt64;     # report on from the DA height after this one. It may be lower than what was reported: by what
                                 # there was no room for, by an operator's command, and where bytes are others than were said
  wanted @1 :List(WantedSighting);   # open positions, lowest on DA first, at most 256: report what stands there as signedBlock.
                                 # Until then nothing behind them on DA is judged at their height
  junk @2 :UInt32;               # sightings of this report that are no blocks of this chain: they decide nothing
  passedOver @3 :UInt32;         # sightings of this report that a key signed which is not in the schedule there: they are read
                                 # again when the schedule grows
}

struct WantedSighting {
  daHeight @0 :UInt64;
  index @1 :UInt32;
  height @2 :UInt64;             # as it was reported
  digest @3 :Data;               # as it was reported
}

struct ReportRefusal {
  reason @0 :RefusalReason;
  why @1 :Text;                  # for people
  daHeight @2 :UInt64;           # of the sighting that was refused; 0: it is about the report as a whole
  index @3 :UInt32;
}

enum RefusalReason {
  # A host does not repeat what was refused for a reason that it does not know.
  storageFull @0;                # goes on by itself: report it again later
  backwards @1;                  # scannedThrough is below `after`
  tooFar @2;                     # it covers, or names, DA heights too far above what was reported: report less at a time
  tooLarge @3;                   # more than Limits.maxReportBytes, or a block above ServerInfo.maxBlockBytes
  noSuchPosition @4;             # a DA height of 0, or of 2^63 and more
  notByName @5;                  # a name, where bytes decide
  onlyByName @6;                 # bytes or a digest, where names decide
  nameTooLong @7;                # a hostId of more than 64 bytes
  otherHeight @8;                # the block that was given is of another height than was said. The position stays as it was
}

struct UploadSightingResult {
  union {
    upload @0 :SightingUpload;
    refused @1 :ReportRefusal;
    overloaded @2 :UInt32;       # try again after so many milliseconds
  }
}

interface SightingUpload {
  # Dropping it before `commit` forgets it.
  write @0 (offset :UInt64, data :Data) -> (received :UInt64);   # in order, without gaps; at most Limits.maxInlineBytes
  commit @1 () -> (result :ReportResult);                        # when all bytes are there
}

# ---------------------------------------------------------------------------------------------------------------------
# Operating

interface Admin {
  status @0 () -> (status :Status);
  peers @1 () -> (peers :List(PeerInfo), bans :List(BanInfo));                  # who is connected or persistent; all bans
  evidence @2 (after :UInt64, max :UInt32) -> (evidence :List(EvidenceInfo));   # ascending by id, above `after`
  schedule @3 () -> (entries :List(ScheduleEntry));
  extendSchedule @4 (entry :ScheduleEntry) -> (result :OperatorResult);         # above soft, and above the last entry; durable
  abandonBranch @5 (from :BlockId) -> (result :OperatorResult);
  # After a divergence on DA: take back our own branch from this block on, and go on with what DA has. The only way in
  # which a node that signs may ever sign a height again.
  assertSigned @6 (last :BlockId) -> (result :OperatorResult);
  # The last block that this node's key ever signed; height 0: it never signed. For a node whose guard file is lost, or
  # ahead of its store; a sound guard is never replaced. A wrong answer lets the key sign a height twice.
  liftVeto @7 () -> (result :OperatorResult);
  setLogFilter @8 (filter :Text) -> (result :OperatorResult);                   # as in the configuration: log.filter
  shutdown @9 (abrupt :Bool) -> ();                                             # as SIGTERM does; abrupt: at once
  # What follows is in force, and survives a restart, when it is answered with `done`. What the settings say (p2p.persistent,
  # p2p.deny) is changed there, and an order against it is refused.
  addPeer @10 (address :Text) -> (result :OperatorResult);      # a multiaddr with /p2p/<peer id>: a persistent peer from now on
  removePeer @11 (peerId :Text) -> (result :OperatorResult);    # not persistent any more; it stays connected
  banPeer @12 (subject :Text, seconds :UInt64, reason :Text) -> (result :OperatorResult);   # a peer id, IP address or subnet
  unbanPeer @13 (subject :Text) -> (result :OperatorResult);
  consumers @14 () -> (consumers :List(ConsumerInfo));          # all that have ever acknowledged anything
  forgetConsumer @15 (name :Text) -> (result :OperatorResult);  # it is gone for good: pruning waits for it no longer
  rescanDa @16 (from :UInt64) -> (result :OperatorResult);
  # After a wrong report: what was reported of DA heights from this one on is forgotten, above hard, and read again; a halt that
  # it led to ends. What is hard stays, and so does what the key has signed. Refused at or below Status.floor's DA height.
  checkpoint @17 () -> (result :CheckpointResult);
  # What another node's `sync.from` may be, by this node's word.
  disown @18 (block :BlockId) -> (result :OperatorResult);
  # Gives up a block of which nobody can show what it stands on: it is neither stored nor waited for, unless DA has it. Refused
  # for what stands on our soft head, and for what nothing here has heard of. It never frees the guard: see assertSigned.
  withdrawSchedule @19 (fromHeight :UInt64) -> (result :OperatorResult);        # takes the entry that begins there back, above soft
}

struct Checkpoint {
  id @0 :BlockId;                # is hard, and...
  daHeight @1 :UInt64;           # ...no block above it stands on DA at or below this DA height
}

struct CheckpointResult {
  union {
    checkpoint @0 :Checkpoint;
    none @1 :Text;               # why there is none
  }
}

struct ConsumerInfo {
  name @0 :Text;
  acked @1 :BlockId;             # it has processed everything up to here
}

struct OperatorResult {
  union {
    done @0 :Void;
    refused @1 :Text;            # why, and what would be needed
  }
}

struct Status {
  info @0 :ServerInfo;
  uptimeMs @1 :UInt64;
  peers @2 :UInt32;
  received @3 :Received;
  forked @4 :Bool;               # somebody holds another branch that the sequencer signed; only DA can decide
  halt @5 :Text;                 # why publishing has stopped; empty: it has not
  vetoed @6 :BlockId;            # what the host's execution refuses; null: nothing
  notReady @7 :Text;             # why nothing can be published now; empty: something can (see awaitsSigner), or this
                                 # node does not sign
  wanted @8 :List(WantedSighting);   # open positions on DA: the host is to report what stands there
  heldBlocks @9 :UInt32;         # verified blocks that wait for those before them
  openRequests @10 :UInt32;
  pendingSightings @11 :UInt32;  # DA sightings that wait for their turn
  storageFull @12 :Bool;
  lost @13 :Range;               # lost to damage and not fetched again yet; null: nothing
  sessions @14 :UInt32;          # connected hosts
  streams @15 :UInt32;
  listen @16 :List(Text);        # addresses, each with /p2p/<peer id>
  historyUnavailable @17 :Bool;  # peers have blocks above ours, and none of them has the next one any more: it has to come
                                 # from DA, from a peer that keeps more, or from a later start. Or, at the head and with
                                 # `backfills`: none has what lies below the tail
  storedBytes @18 :UInt64;       # of blocks; the database adds to it
  pruningWaitsFor @19 :Text;     # the consumer whose ack is missing: blocks are kept for it that would be pruned; empty: none
  retainBlocks @20 :UInt64;      # store.retain_blocks; 0: all
  maxBytes @21 :UInt64;          # store.max_bytes; 0: no bound
  pruneUnconfirmed @22 :Bool;    # store.prune_unconfirmed: what DA has never confirmed is pruned, too
  backfills @23 :Bool;           # sync.backfill: what lies below the tail is being fetched, or will be
  hardWaitsFor @24 :Text;        # why hard stands still although DA says something of the next height, or although the store
                                 # began with a trusted block; empty: it does not
  floor @25 :Checkpoint;         # what the store began with, where sync.from said so with @DA: DA is read above it, and nothing
                                 # at or below its block is ever judged; null: there is none
  belowFloor @26 :UInt64;        # sightings at or below the floor's block since the sidecar started: they decide nothing
  passedOver @27 :UInt64;        # sightings since the sidecar started that a key signed which is not in the schedule there
  lowestPassedOver @28 :PassedOver;  # the lowest of them above hard; null: none
  unknownProposer @29 :UnknownProposer;   # peers have blocks by somebody whom the schedule does not name; null: none
  aheadOfClock @30 :AheadOfClock;   # blocks are refused, since their time is ahead of our clock; null: none
  lostWords @31 :List(Text);     # what hosts and operators had said and damage took (a veto, entries of the schedule, or nobody
                                 # knows what): each says what is to be said again. Empty: nothing
  awaitsSigner @32 :Bool;        # this node has a guard, and no key: blocks are signed once a host passes a signer to `open`; until
                                 # then it takes those that a host has signed itself (`publishSigned`)
}

struct PassedOver {
  # On DA there is a block that this key has signed, and the schedule does not have it there.
  height @0 :UInt64;
  proposer @1 :Data;
  daHeight @2 :UInt64;
  index @3 :UInt32;
}

struct AheadOfClock {
  # Either our clock is wrong, or the proposer's. Forgotten when such a block is believed.
  blocks @0 :UInt64;             # so many were refused, copies counted
  lastByMs @1 :UInt64;           # how far the time of the last one was ahead
  sinceMs @2 :UInt64;            # so long ago the first one was refused
}

struct UnknownProposer {
  # What peers say: nobody's signature was checked. The schedule may be behind.
  height @0 :UInt64;             # the lowest
  proposer @1 :Data;
  count @2 :UInt64;              # so many were seen, copies counted
}

struct Received {
  # Blocks that became soft since the sidecar started, by where they came from.
  published @0 :UInt64;
  gossip @1 :UInt64;
  range @2 :UInt64;
  da @3 :UInt64;
}

struct PeerInfo {
  peerId @0 :Text;
  address @1 :Text;              # where it is connected; empty: it is not
  outbound @2 :Bool;             # we dialled it
  agent @3 :Text;                # as it calls itself: not to be trusted
  connectedMs @4 :UInt64;
  latencyUs @5 :UInt64;          # of the last ping; 0: not measured yet
  connected @6 :Bool;            # a persistent peer is listed while it is missing, too
  persistent @7 :Bool;           # never evicted, and never banned by the sidecar itself
  known @8 :List(Text);          # other addresses where it was reached
  blocks @9 :UInt64;             # that it gave us, in all its connections
  bytes @10 :UInt64;
  # The selection score: whom to ask next. It never bans.
  expectedWaitUs @11 :UInt64;    # how long an answer is expected to take; 0: it is not asked
  failures @12 :UInt32;          # requests in a row that brought nothing
  restMs @13 :UInt64;            # nothing is asked of it for so long
  # The ban score: provable violations only.
  bans @14 :UInt32;              # earned since the sidecar started; each is twice as long as the one before
  badSignatures @15 :UInt32;     # in the current minute
  lastOffence @16 :Text;         # empty: none
  lastOffenceMs @17 :UInt64;     # so long ago
}

struct BanInfo {
  subject @0 :Text;              # a peer id, an IP address or a subnet
  reason @1 :Text;
  leftMs @2 :UInt64;
  byOperator @3 :Bool;           # or else by the sidecar itself
}

struct ScheduleEntry {
  fromHeight @0 :UInt64;
  proposer @1 :Data;             # 32 bytes, ed25519
}

struct EvidenceInfo {
  id @0 :UInt64;
  height @1 :UInt64;
  firstHeader @2 :Data;          # signed header bytes
  firstSignature @3 :Data;
  secondHeader @4 :Data;
  secondSignature @5 :Data;
}
