/* Verbs of PRELUX_OP_CTL: what the CLI may ask preluxd, and the JSON it gets (in a memfd, one object, no final newline).
 * PATH arguments are absolute, normalised logical paths (or URIs "s3:/bucket/x"), judged by TABLE, which those verbs
 * need. Strings are UTF-8: bytes that are not are taken for Latin-1, and KEY_hex then holds the true bytes. Sizes are bytes,
 * times seconds (`_s`) or milliseconds (`_ms`). Keys may be added, never changed.
 *
 *  status          [TABLE]   {pid, version, backends: [{name, type, identity, ok, trouble?, ...what the backend itself reports}],
 *                             mappings: [{local, remote, cache, freshness, broken, cause}],
 *                             cache: {dir, used_bytes, max_bytes, files, stores: [{dir, used_bytes, max_bytes, files, hits, fills,
 *                             filled_bytes, evictions, adopted, negatives, listings, remote_stats}]},
 *                             pending: {count, bytes, open, waiting, refused, recovered}, errors: [last 10 records of RUNTIME/errors]}
 *                            without TABLE: mappings and backends of all tables in use
 *  daemon-status             {pid, version, uptime_s, clients, pending_uploads, runtime, sessions, tables, threads, queue, requests}
 *  daemon-stop               {pid}; the daemon stops listening once this is answered and ends when it has served what it has
 *  map PATH        TABLE     {path, mapping, remote, cache, freshness, state, version, owners: ["host:port"]}; mapping null when
 *                            unmapped. owners: the workers that would be asked, the first first; owners_cause: why they are not known.
 *                            state: absent cached partial dirty pending negative directory
 *  stat PATH       TABLE     {path, type: file|directory, size, mtime (float s), mtime_ns, mode, ino, cached}
 *  ls PATH         TABLE     {path, entries: [{name, type, size, mtime, mtime_ns, mode, ino}]}; for an ancestor of mappings the
 *                            names of mapping roots below it
 *  prefetch PATH*  TABLE     {files, bytes, cached (files that were there before), folders, failed, failures: [{path, errno, cause}] (first
 *                            20)}; folders recursively; "glob=PATTERN": what matches, with patterns in any component below a mapping's
 *                            root. PROGRESS: {the same numbers, found_files, found_bytes, came (bytes from the remote), open (folders
 *                            not listed yet, paths nothing is known of: 0: all is found)}. A PATH in no mapping fails alone
 *  evict PATH*     TABLE     {files, bytes, busy}; what is pinned, too
 *  pin PATH*       TABLE     {pinned}: eviction leaves them alone from now on, with all below; "option=check" at the end: only whether they can be
 *  unpin PATH*     TABLE     {unpinned}: pins of these very paths that went
 *  pins            TABLE     {pins: [{path, files, bytes}]}: and what of them is in the cache
 *  verify PATH* [option=data] [option=repair]  TABLE
 *                            {files, same, stale, gone, damaged, unknown, failed, repaired, found: [{path, state, cause}] (first 100)}: cached
 *                            files beside the remote, with its bytes (data); what differs is dropped and fetched anew (repair)
 *  metrics                   {text}: Prometheus's text format
 *  stats                     {uptime_s, bounds_s: [upper bounds], mappings: [{mapping, stat, open, list: {hit, miss, error, seconds, times: [requests by
 *                            bounds_s, and longer]}, remote_bytes, remote_requests}]}: of requests that reached the daemon since it began
 *  errors [PATH]             {errors: [records, oldest first, at most the last 1000]}; PATH: at or below it
 *  log-level LEVEL           {level}: error warn info debug
 *  log [LINES]               {file, text}: tail of the daemon's log (default 100 lines, at most 60 KiB)
 *  doctor          [TABLE]   {mappings: [{local, remote, backend, ok, ms, errno, cause, advice}], runtime, log, nofile,
 *                            backends: [{name, type, ms, trouble?, ...what it reports after asking its servers}]}
 *  load submit|progress|stop PATH [OPTION...]  TABLE
 *                            {path, remote, backend, state: starting running done stopped failed unknown, attached, bytes_done,
 *                            bytes_total, files_failed, job, text}. PATH: a logical path, or the remote's own URI below the root of
 *                            a backend of TABLE. OPTION (submit): verify metadata-only skip-if-exists partial-listing bandwidth=BYTES
 *  cluster free|mount|unmount|setattr|info|locate PATH [OPTION...]  TABLE
 *                            {path, remote: "BACKEND:/object", backend, verb, ...}. info: info, as the remote says it. locate: endpoint,
 *                            owners: ["host:port"], blocks: [{offset, length, locations: [{host, port, tier}]}], under_store.
 *                            PATH as of load, or BACKEND:/object. OPTION: recursive (free, setattr) forced (free) source=URI read-only
 *                            shared property=KEY=VALUE (mount) mode=OCTAL owner=NAME group=NAME pinned=BOOL persisted=BOOL ttl=MS
 *                            (-1: for ever) ttl-action=NAME replication-min=N replication-max=N (setattr)
 *  pending PATH* [after=NS] [before=NS] [id=ID] [past=ID]  [TABLE]
 *                            {open, waiting, sending, refused, recovered, count, bytes, sent_files, failed_tries (since the daemon began),
 *                            async (TABLE has a mapping that writes so), grace_s, now_ns, files: [{id, path, state, size, sent, tries,
 *                            errno, cause, since_ns, file}] (first 1000)}: what is not on the remote, of what was begun between after and
 *                            before (CLOCK_REALTIME). Without PATH all of TABLE, without TABLE everything. Without arguments also
 *                            files of state "away", their number in "away" and not in count: of remotes that no table in use has
 *  flush PATH* [after=NS] [before=NS]    [TABLE]
 *                            as pending, after closes nobody told of were looked for and what was put off may be tried at once
 *  pending-retry ID [overwrite]  {id}: sent again, whatever the remote has with overwrite
 *  pending-drop ID           {id}: its bytes are given up
 *  tables                    {tables: [{hash, path, source, cwd, mappings, broken, uses}]}
 *
 * Status of the reply: 0; -EINVAL unknown verb or bad arguments; -ENOENT, -EIO, ... of a single PATH as STAT gives them;
 * PRELUX_STATUS_NO_TABLE. TEXT says why. */
#ifndef PRELUX_CTL_H
#define PRELUX_CTL_H

#define PRELUX_CTL_STATUS "status"
#define PRELUX_CTL_DAEMON_STATUS "daemon-status"
#define PRELUX_CTL_DAEMON_STOP "daemon-stop"
#define PRELUX_CTL_MAP "map"
#define PRELUX_CTL_STAT "stat"
#define PRELUX_CTL_LS "ls"
#define PRELUX_CTL_PREFETCH "prefetch"
#define PRELUX_CTL_EVICT "evict"
#define PRELUX_CTL_METRICS "metrics"
#define PRELUX_CTL_STATS "stats"
#define PRELUX_CTL_PIN "pin"
#define PRELUX_CTL_UNPIN "unpin"
#define PRELUX_CTL_PINS "pins"
#define PRELUX_CTL_VERIFY "verify"
#define PRELUX_CTL_ERRORS "errors"
#define PRELUX_CTL_LOG_LEVEL "log-level"
#define PRELUX_CTL_LOG "log"
#define PRELUX_CTL_DOCTOR "doctor"
#define PRELUX_CTL_TABLES "tables"
#define PRELUX_CTL_LOAD "load"
#define PRELUX_CTL_CLUSTER "cluster"
#define PRELUX_CTL_PENDING "pending"
#define PRELUX_CTL_FLUSH "flush"
#define PRELUX_CTL_PENDING_RETRY "pending-retry"
#define PRELUX_CTL_PENDING_DROP "pending-drop"

#endif
