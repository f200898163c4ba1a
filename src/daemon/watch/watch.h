/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon tells of itself: metrics, one log line and one audit line per request.
 *
 * Knows no HTTP and no dialect: the API hands it a record of every request that asked a model, and
 * every other answer's status.  Never sees a prompt, an answer or a key.  Any thread. */
#ifndef DAEMON_WATCH_WATCH_H
#define DAEMON_WATCH_WATCH_H

#include "daemon/runner/runner.h"
#include "lib/base/buf.h"
#include "lib/net/httpd.h"

struct watch;

struct watch_config {
    const char *audit_path; /* NULL: no audit log */
};
int watch_new(const struct watch_config *cfg, struct watch **ret, struct err *err) MUST_USE;
void watch_free(struct watch *w);
/* Opens the audit log anew (SIGHUP, after somebody moved it away). */
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
/* Any other answer: counted by route pattern and status, logged at debug level. */
void watch_answer(struct watch *w, const char *request_id, const char *route, int status,
                  double total_ms);
/* A policy said no (rule: "host", "origin", "key", "scope", "insecure"). */
void watch_denied(struct watch *w, const char *rule);
/* An inference request has come (+1) and ended (watch_request does that). */
void watch_begin(struct watch *w, const char *api);

/* Everything in Prometheus text format 0.0.4, every row of metrics.def. */
int watch_metrics(struct watch *w, struct runner *r, struct httpd *h, struct buf *out,
                  struct err *err) MUST_USE;

#endif
