/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life: create the runner, listen, serve until told to stop, stop in order.
 *
 * Knows no command line and no environment: the caller (cli) fills the struct.  Called once, on the
 * main thread of its process, before any other thread exists. */
#ifndef DAEMON_SERVE_H
#define DAEMON_SERVE_H

#include "daemon/runner/runner.h"
#include "daemon/watch/watch.h"
#include "lib/base/log.h"

struct daemon_config {
    const char *host;     /* NULL: "127.0.0.1"; a numeric address or "localhost" */
    bool allow_remote;    /* without it or keys a host that is not loopback is refused */
    const char *api_keys; /* file of keys (daemon/api/keys.h); NULL: none are asked for */
    const char *allowed_hosts, *allowed_origins; /* daemon/api/guard.h; may be NULL */
    uint16_t port;                               /* 0: any free one */
    struct runner_config runner;                 /* borrowed for the daemon's life */
    enum log_level log_level;
    bool log_json;
    struct watch_config watch; /* borrowed: log file, audit log */
    uint32_t n_http_threads;   /* 0: two to four, by the processors there are */
    uint32_t
        keep_alive_ms; /* silence after which a stream says ": keep-alive"; 0: fifteen seconds */
    uint32_t
        exit_idle_s;  /* ends when there was no request and no connection for so long; 0: never */
    uint32_t grace_s; /* how long a stop waits for running requests; 0: ten seconds */
    int ready_fd; /* -1: none.  Receives one line and is closed: "port=N pid=N\n" once listening,
                   * "error=SENTENCE\n" when the start failed; end of file without a line: died */
};

/* Every field at its default; ready_fd -1. */
void daemon_config_init(struct daemon_config *cfg);

/* Serves until SIGTERM, SIGINT or POST /berth/v1/shutdown, then stops gracefully; a second signal
 * stops at once. Returns the process's exit status: 0 after an ordinary stop, 1 when it could not
 * start (said on standard error). */
int daemon_main(const struct daemon_config *cfg);

#endif
