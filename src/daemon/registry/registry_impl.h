/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of daemon/registry: what its files share.
 *
 * A call (pull, push) is a job: its progress, and whether it goes on.  It speaks through sessions,
 * one per place where the repository is (mirrors, then the registry itself), each with its own
 * authorization; and it carries its blobs on a few threads, each with its own HTTP client. */
#ifndef DAEMON_REGISTRY_REGISTRY_IMPL_H
#define DAEMON_REGISTRY_REGISTRY_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/registry/credentials.h"
#include "daemon/registry/registry.h"
#include "lib/net/fetch.h"
#include "lib/net/url.h"

#define MAX_PARALLEL      16u
#define MAX_SESSIONS      9u /* eight mirrors and the registry itself */
#define MAX_REDIRECTS     6u
#define ERROR_BODY_BYTES  (16u << 10) /* of an error's answer, to quote from */
#define CONFIG_BLOB_BYTES (16u << 20) /* of a model's config, for registry_inspect */

struct registry {
    struct registry_config cfg; /* strings owned, none NULL but those that may be absent */
    struct store *store;        /* borrowed */
};

/* ---- job.c: progress, cancellation, patience ---- */

struct job {
    struct registry *r;
    const struct registry_options *o;
    bool is_push;
    atomic_bool is_over; /* canceled, or one of its parts has failed: the others stop */
    atomic_bool is_canceled;
    pthread_mutex_t lock; /* below, and while on_progress runs */
    enum registry_phase phase;
    uint64_t done_bytes, total_bytes;
    uint64_t told_ms;
};

void job_init(struct job *j, struct registry *r, const struct registry_options *o, bool is_push);
void job_release(struct job *j);
void job_phase(struct job *j, enum registry_phase phase);
void job_note(struct job *j, bool is_warning, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* fetch's on_tick: tells now and then that we live; false once the job is over. */
bool job_tick(void *job);
/* -E_CANCELED with the sentence for it when the job is over. */
int job_check(struct job *j, struct err *err) MUST_USE;

/* Something that moves. */
struct job_part {
    const char *name; /* borrowed */
    uint64_t size, done, told_done, told_ms;
};
/* done of part's bytes have moved; never goes back. */
void job_moved(struct job *j, struct job_part *part, uint64_t done);

struct patience {
    uint32_t n_failed; /* in a row, without a byte gained */
    uint32_t n_corrupt;
};
/* Whether err, with what the other side answered (status 0: nothing), is worth another try; waits
 * before it is, as long as Retry-After or a growing pause says, and tells who watches why.  False:
 * err stands. */
bool patience_wait(struct job *j, struct patience *p, const struct fetch_response *resp,
                   struct err *err);
/* Seconds that a Retry-After header asks for; 0 when it cannot be read. */
uint64_t retry_after_s(struct str value);

int job_fetch_new(struct job *j, struct fetch **ret, struct err *err) MUST_USE;

/* ---- session.c ---- */

struct session {
    struct job *job;
    char registry[OCI_REPOSITORY_CHARS + 1]; /* whose credentials */
    char repository[OCI_REPOSITORY_CHARS + 1];
    struct buf base; /* "https://host:port/prefix", without a final slash */
    struct url url;  /* of base */
    bool is_hub;
    pthread_mutex_t lock;     /* guards what follows */
    bool may_use_http;        /* not known yet whether it speaks TLS */
    uint32_t generation;      /* of authorization: counts up */
    struct buf authorization; /* "Authorization: ...", empty: none */
    bool has_credentials;     /* looked up */
    struct credentials credentials;
    char mount_from[OCI_REPOSITORY_CHARS + 1]; /* also asked for in the scope */
};

/* prefix: "https://mirror/path" or NULL for the registry itself. */
int session_init(struct session *s, struct job *j, const char *registry, const char *repository,
                 const char *prefix, struct err *err) MUST_USE;
void session_release(struct session *s);
/* Finds out, for a registry that may be spoken to in plain HTTP, whether it must be; base is to be
 * read only after this. */
int session_probe(struct session *s, struct fetch *f, struct err *err) MUST_USE;

#define SESSION_HEADERS 6u
struct session_request {
    const char *method;
    const char *url;                      /* absolute */
    const char *headers[SESSION_HEADERS]; /* up to the first NULL */
    const void *body;
    size_t body_len;
    bool has_file;
    int file_fd;
    uint64_t file_offset, file_bytes;
    void (*on_sent)(void *ctx, uint64_t n_sent);
    fetch_data_fn on_data; /* of an answer with a status below 300 */
    void *ctx;
    uint32_t wait_ms;
};
/* One request with our authorization, gained anew when the registry asks for it; redirects of GET
 * and HEAD are followed.  Any final status is 0; said gets the body of one that is an error. */
int session_do(struct session *s, struct fetch *f, const struct session_request *rq,
               struct fetch_response *resp, struct buf *said, struct err *err) MUST_USE;
/* As session_do, again while patience lasts; for requests that may be repeated. */
int session_try(struct session *s, struct fetch *f, const struct session_request *rq,
                struct fetch_response *resp, struct buf *said, struct err *err) MUST_USE;
/* The sentence for a status that is an error. */
int session_error(const struct session *s, const char *doing, const struct fetch_response *resp,
                  const struct buf *said, struct err *err);

/* auth.c: answers the 401 in resp; seen: the generation that was refused. */
int session_authorize(struct session *s, struct fetch *f, const struct fetch_response *resp,
                      uint32_t seen, struct err *err) MUST_USE;

/* The places where ref is, mirrors first. */
struct sessions {
    struct session items[MAX_SESSIONS];
    uint32_t n;
};
int sessions_init(struct sessions *l, struct job *j, const struct oci_reference *ref,
                  struct err *err) MUST_USE;
void sessions_release(struct sessions *l);

/* ---- manifest.c ---- */

struct remote_manifest {
    struct buf text;
    struct arena arena;
    struct oci_manifest m;
    char digest[OCI_DIGEST_CHARS + 1];
    uint32_t session; /* where it was found */
};
/* ret is to be released in any case. */
int manifest_fetch(struct job *j, struct sessions *l, struct fetch *f,
                   const struct oci_reference *ref, struct remote_manifest *ret,
                   struct err *err) MUST_USE;
void manifest_release(struct remote_manifest *m);

/* ---- download.c ---- */

/* A body on its way into the store, from any address of a session. */
struct download {
    const char *url;    /* absolute */
    const char *digest; /* NULL: only known once it is here; then blob_sha1 is checked */
    const char *git_id; /* 40 digits of a git blob's id, or NULL */
    uint64_t size;
    struct job_part *part;
    char ret_digest[OCI_DIGEST_CHARS + 1];
};
/* Until it is there or patience ends. */
int download(struct session *s, struct fetch *f, struct download *d, struct err *err) MUST_USE;

/* ---- transfer.c: parts on a few threads ---- */

/* Carries out the i-th one. */
typedef int (*transfer_fn)(void *ctx, uint32_t i, struct fetch *f, struct err *err);
/* All n of them, at most max_parallel at once, the first client being f; ends with the first
 * failure. */
int transfer_all(struct job *j, struct fetch *f, uint32_t n, transfer_fn fn, void *ctx,
                 struct err *err) MUST_USE;

/* ---- upload.c ---- */
/* Brings a blob of the store to the session's repository, unless it is there.  *ret_sent: bytes had
 * to go. */
int upload(struct session *s, struct fetch *f, const struct oci_descriptor *d,
           const char *mount_from, struct job_part *part, bool *ret_sent, struct err *err) MUST_USE;

/* ---- hub.c, hub_facts.c ---- */
struct hub_files;
struct oci_config;
/* What the chosen files say of the model, all in the store now; strings come from a.  ret's kind is
 * the caller's to set. */
int hub_facts(struct job *j, const struct hub_files *files, struct arena *a,
              struct oci_config *ret, struct err *err) MUST_USE;
int hub_pull(struct job *j, struct fetch *f, const struct oci_reference *ref,
             struct registry_result *ret, struct err *err) MUST_USE;

#endif
