/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by guard.c and guard_rules.c only: the guard's insides. */
#ifndef DAEMON_API_GUARD_IMPL_H
#define DAEMON_API_GUARD_IMPL_H

#include <pthread.h>

#include "daemon/api/guard.h"
#include "lib/base/limits.h"

#define HOST_BYTES   256u
#define ORIGIN_BYTES 320u
#define TRIES_SETS   256u
#define TRIES_WAYS   4u

/* An entry of allowed-origins, in small letters. */
struct origin_rule {
    char *text;    /* owned */
    bool any;      /* "*" */
    bool any_rest; /* text ends in "://": any host may follow; in ":": any port, or none */
};

/* Who tried keys that are none, lately. */
struct tries {
    uint64_t id, last_ms;
    uint32_t n;
};

struct guard {
    struct keys *keys;
    struct watch *watch;
    bool any_address, any_host;
    size_t n_hosts, n_origins;
    char *hosts[LIMIT_ORIGINS]; /* owned */
    struct origin_rule origins[LIMIT_ORIGINS];
    pthread_mutex_t tries_lock;
    struct tries tries[TRIES_SETS][TRIES_WAYS];
    uint64_t told_ms;  /* when the log was last told of wrong keys */
    uint32_t n_untold; /* wrong keys since */
};

#endif
