/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life: create the runner, listen, serve until told to stop, stop in order.
 *
 * Knows no command line and no environment: the caller fills the struct.  Called once, on the main
 * thread of its process, before any other thread exists. */
#ifndef DAEMON_SERVE_H
#define DAEMON_SERVE_H

#include "daemon/runner/runner.h"
#include "daemon/watch/watch.h"
#include "lib/base/log.h"
#include "lib/sys/sd.h"

/* Strings are borrowed for the daemon's life; NULL and "" mean the same. */
struct daemon_config {
    const char *host;        /* NULL: "127.0.0.1"; a numeric address or "localhost" */
    bool allow_remote;       /* without it or keys an address that others reach is refused */
    uint16_t port;           /* 0: any free one */
    const char *socket_path; /* a Unix socket to listen on too */
    const struct sd *sd;     /* the service manager; its sockets replace host and port */
    const char *api_keys;    /* file of keys (daemon/api/keys.h); none: no key is asked for */
    const char *tls_cert, *tls_key;              /* PEM files, both or none */
    const char *allowed_hosts, *allowed_origins; /* daemon/api/guard.h */
    struct runner_config runner;
    const char *store_dir; /* of the store; one that cannot be opened stops the start if it was
                            * named (store_is_named), else the daemon runs without; NULL: none */
    bool store_is_named;
    const struct config *config; /* for registries: where credentials, mirrors, authorities are */
    struct watch_config watch;
    enum log_level log_level;
    bool log_json;
    uint32_t n_http_threads;     /* 0: two to four, by the processors there are */
    uint64_t max_body_bytes;     /* 0: LIMIT_HTTP_BODY_BYTES */
    uint32_t max_connections;    /* 0: LIMIT_HTTP_CONNECTIONS */
    uint64_t request_timeout_ms; /* of requests that do not say; 0: none */
    uint32_t keep_alive_ms;   /* silence after which a stream says ": keep-alive"; 0: fifteen s */
    uint32_t exit_idle_s;     /* ends when there was no request and connection so long; 0: never */
    uint64_t drain_delay_s;   /* on SIGTERM, not ready for so long, but still serving */
    uint64_t drain_timeout_s; /* then running requests have so long to end */
    int ready_fd; /* -1: none.  Receives one line and is closed: "port=N pid=N\n" once listening,
                   * "error=SENTENCE\n" when the start failed; end of file without a line: died */
};

/* Every field at its default: ready_fd -1, drain_timeout_s 30. */
void daemon_config_init(struct daemon_config *cfg);

/* Serves until SIGTERM, SIGINT or POST /berth/v1/shutdown, then stops in order: not ready, no new
 * connections, running requests end, the rest get an error, workers end.  A second SIGTERM or
 * SIGINT cuts the waiting short.  SIGHUP reads keys and certificate again and reopens log files; of
 * a terminal that has gone away it is a SIGTERM.  Returns the process's exit status: 0 after an
 * ordinary stop, 1 when it could not start (said on standard error). */
int daemon_main(const struct daemon_config *cfg);

#endif
