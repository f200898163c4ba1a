/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon tells of itself: its log, metrics, one log line and one audit line per request.
 *
 * Knows no HTTP and no dialect: the API hands it a record of every request that asked a model, and
 * every other answer's status.  Never sees a key, nor, unless log_prompts is on, a prompt or an
 * answer.  Any thread; watch_new and watch_free while there is only one. */
#ifndef DAEMON_WATCH_WATCH_H
#define DAEMON_WATCH_WATCH_H

#include "daemon/runner/runner.h"
#include "lib/base/buf.h"
#include "lib/net/httpd.h"

struct watch;

struct watch_config {
    const char *audit_path;  /* NULL or "": no audit log */
    const char *log_path;    /* NULL or "": the log stays on standard error */
    uint64_t log_file_bytes; /* a new file is begun at this size; 0: 10 MiB */
    uint32_t log_files;      /* kept, the current one included; 0: 3 */
    bool log_prompts;        /* at debug level, prompts and answers go to log_path too */
};
/* From here on watch has the log: what log_write says goes through it, until watch_free.  E_IO when
 * a file cannot be opened; E_INVALID for log_prompts without log_path. */
int watch_new(const struct watch_config *cfg, struct watch **ret, struct err *err) MUST_USE;
void watch_free(struct watch *w); /* NULL is fine */
/* Opens log file and audit log anew (SIGHUP, after somebody moved them away); the old ones stay
 * when that fails. */
int watch_reopen(struct watch *w, struct err *err) MUST_USE;

/* One request to a model, when it has ended. */
struct watch_record {
    const char *request_id, *api; /* "chat.completions", "completions", "tokenize" … */
    const char *model, *digest, *fingerprint,
        *key;                        /* key: its name, "" without keys; any may be NULL */
    const char *client;              /* address, for the log at debug level only */
    const struct gen_params *params; /* NULL: it had none */
    uint32_t n_prompts;              /* of one request */
    uint32_t n_prompt, n_cached, n_generated;
    double queue_ms, prefill_ms, decode_ms, ttft_ms, total_ms; /* ttft 0: no token came */
    int status;       /* HTTP; of a stream that failed after 200, what it would have been */
    const char *code; /* "" when it went well, else the API's error code; "cancelled" */
    bool stream;
};
void watch_request(struct watch *w, const struct watch_record *rec);
/* Something was done to the store of models, or was tried. */
struct watch_change {
    const char *request_id, *key; /* key: its name, "" without keys */
    const char *action;           /* "pull", "push", "load", "export", "tag", "delete" ... */
    const char *model, *digest;   /* "" and NULL: none, or not known */
    uint64_t bytes;               /* moved, read or freed */
    double total_ms;
    const char *code, *sentence; /* "" when it went well; sentence: for the log */
};
void watch_change(struct watch *w, const struct watch_change *c);
/* Any other answer: counted by route pattern and status, logged at debug level. */
void watch_answer(struct watch *w, const char *request_id, const char *route, int status,
                  double total_ms);
/* A policy said no (rule: "host", "origin", "key", "scope"). */
void watch_denied(struct watch *w, const char *rule);
/* An inference request has come (+1) and ended (watch_request does that). */
void watch_begin(struct watch *w, const char *api);

/* Whether watch_text does anything: ask before a text is put together for it. */
bool watch_wants_text(const struct watch *w);
/* With log_prompts, and only to the log file, cut at 16 KiB.  what: "prompt", "answer". */
void watch_text(struct watch *w, const char *request_id, const char *what, struct str text);

/* The log's last 256 KiB, whole lines.  Positions count bytes since the start. */
uint64_t watch_log_tail(struct watch *w, uint32_t n_lines); /* where the last n_lines begin */
/* Appends what there is from *pos, at most max bytes, and moves *pos; returns how many bytes were
 * missed because they are gone already. */
uint64_t watch_log_read(struct watch *w, uint64_t *pos, size_t max, struct buf *out);

/* Everything in Prometheus text format 0.0.4, every row of metrics.def; those with vLLM's names on
 * demand.  h may be NULL. */
struct store;
/* s: what the store takes is told too; NULL: there is none.  Jobs: those that run and wait. */
struct watch_jobs {
    uint32_t n_running, n_waiting;
};
int watch_metrics(struct watch *w, struct runner *r, struct httpd *h, struct store *s,
                  const struct watch_jobs *jobs, bool with_vllm, struct buf *out,
                  struct err *err) MUST_USE;

#endif
