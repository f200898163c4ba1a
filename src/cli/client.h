/* SPDX-License-Identifier: Apache-2.0 */
/* Speaking to the daemon: its address, requests with JSON in and out, event streams, and starting
 * one when none listens.  A refusal of the server becomes the err's sentence, word for word.  Main
 * thread. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <jansson.h>
#include <sys/types.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"
#include "lib/sys/config.h"

struct client {
    char url[320];  /* "http://127.0.0.1:12434", "https://…", "http://localhost" by socket */
    char host[256]; /* as configured, for starting a daemon */
    char to[256];   /* where to connect for it */
    uint32_t port;  /* 0: by socket */
    uint32_t config_port; /* as configured, for starting a daemon */
    const char *socket;   /* borrowed from the config, as the two below; NULL: by TCP */
    const char *api_key;  /* NULL: none */
    bool is_tls;
    const char *ca_file;          /* NULL: the system's authorities */
    const char *default_registry; /* of names that say none; NULL: docker.io */
    const char *hf_token;         /* to present to the hub; NULL: none */
    const char *config_file;      /* the one that was read; NULL: none */
    const char *models_dir;       /* given as a flag, for a daemon that is started; NULL: not */
    bool may_start;               /* a daemon where none listens */
    /* Set by the caller after client_init, if it wants them. */
    bool is_quiet;      /* client_ensure says nothing */
    uint32_t probe_ms;  /* how long client_version and client_probe wait; 0: 5 seconds */
    bool has_cancel_fd; /* end a request with E_CANCELED once cancel_fd is readable */
    int cancel_fd;
    void (*on_tick)(void *tick_ctx); /* every 100 ms or more often while a request runs */
    void *tick_ctx;
};

/* Where the daemon of this configuration is: at its url if one is configured (unless host, port or
 * socket come from nearer), else at its socket, else at its TCP port.  Connects to nothing; cfg
 * must outlive the client. */
int client_init(struct client *c, const struct config *cfg, struct err *err) MUST_USE;

/* Where that is, for a person: a URL or the socket's path (borrowed). */
const char *client_place(const struct client *c);

/* One request.  body may be NULL (GET).  0 and *ret (new reference; NULL when the answer is not
 * JSON) for a 2xx answer; else the server's sentence, with E_NOTFOUND for 404, E_AUTH for 401,
 * E_BUSY for 429 and 503, E_NET when no one listens. */
int client_json(const struct client *c, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *err) MUST_USE;
/* The same, and the answer's bytes as they came, appended to out. */
int client_bytes(const struct client *c, const char *method, const char *path, const json_t *body,
                 struct buf *out, struct err *err) MUST_USE;

/* GETs a text and hands it on as it comes, until it ends or fn returns false (E_CANCELED). */
typedef bool (*client_text_fn)(void *ctx, const char *p, size_t n);
int client_text(const struct client *c, const char *path, client_text_fn fn, void *ctx,
                struct err *err) MUST_USE;

/* One event of a stream; false ends it (E_CANCELED). */
typedef bool (*client_event_fn)(void *ctx, const json_t *event);
/* POSTs body and reads a text/event-stream answer to its end ("data: [DONE]").  An error event ends
 * it with its sentence (E_GONE); a stream that breaks off without [DONE] is E_NET. */
int client_stream(const struct client *c, const char *path, const json_t *body, client_event_fn fn,
                  void *ctx, struct err *err) MUST_USE;
/* The same for a stream that ends without such a mark: whether it was whole is the caller's to see.
 */
int client_events(const struct client *c, const char *path, const json_t *body, client_event_fn fn,
                  void *ctx, struct err *err) MUST_USE;

/* A request body that is made while it is sent. */
struct client_upload {
    /* The next piece, at most n bytes into p; 0: it has ended; negative: it cannot be made. */
    ssize_t (*read)(void *ctx, char *p, size_t n, struct err *err);
    void *ctx;
    uint64_t bytes;   /* how many there will be; UINT64_MAX: unknown */
    const char *type; /* "application/x-tar" */
};
/* One object of an answer of JSON lines; false ends it (E_CANCELED). */
typedef bool (*client_line_fn)(void *ctx, const json_t *line);
/* POSTs body, or the upload (the other NULL), and reads an answer of JSON lines to its end.  A line
 * of type "error" ends it with its sentence (E_GONE); an answer without one whole line is told as
 * it came. */
int client_lines(const struct client *c, const char *path, const json_t *body,
                 const struct client_upload *upload, client_line_fn fn, void *ctx,
                 struct err *err) MUST_USE;

/* Appends text as a part of a path or query: what has a meaning there is escaped, a slash only
 * where keeps_slash is false. */
void client_escape(struct buf *out, const char *text, bool keeps_slash);

/* Whether a berth daemon answers: 1, 0 (no one listens), or negative (something else does, or it is
 * ill).  Loads no HTTP library unless TLS is spoken. */
int client_probe(const struct client *c, struct err *err) MUST_USE;
/* The same, and the daemon's version. */
#define CLIENT_VERSION_MAX 64
int client_version(const struct client *c, char ret[CLIENT_VERSION_MAX], struct err *err) MUST_USE;
/* Starts a daemon in the background when none answers, saying so on standard error, and waits until
 * it does (autostart.c).  E_NET where none can be started from here: another machine, or TLS. */
int client_ensure(const struct client *c, struct err *err) MUST_USE;

#endif
