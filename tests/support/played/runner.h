/* SPDX-License-Identifier: Apache-2.0 */
/* A runner that plays known models, linked into tests of the API instead of daemon/runner's:
 *   "words"     max_tokens words (default 5) for each choice, at once
 *   "ns/words"  the same under a name with a slash
 *   "slow"      the same, 5 ms apart, endless without max_tokens
 *   "late"      the same as words, ended before runner_generate has returned
 *   "flood"     64 KiB words as fast as they go, 64 MiB without max_tokens
 *   "echo"      the request as the runner sees it, as JSON
 *   "crash"     two words, then FAILED with E_GONE
 *   "silent"    nothing at all until it is canceled
 *   "thinking"  nothing for 1500 ms, then as words
 *   "bytes"     words that break UTF-8 apart into tokens
 *   "fail-N"    FAILED with err code N and nothing before; "refuse-N": runner_generate fails with
 * it "picky"     as slow, but FAILED with E_CONTEXT at once where the prompt is "long" */
#ifndef TESTS_SUPPORT_PLAYED_RUNNER_H
#define TESTS_SUPPORT_PLAYED_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/runner/runner.h"

#define FAKE_DIGEST "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct runner {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t next_id;
    unsigned n_running, n_canceled, n_tokens_jobs;
    atomic_bool is_stopping;
    struct play *plays;
    struct model_settings settings[16]; /* of the names that are known */
};

struct play {
    struct play *next;
    uint64_t id;
    struct runner *runner;
    char model[64];
    struct gen_request req;
    struct run_options opt;
    bool is_load;
    runner_event_fn fn;
    void *ctx;
    atomic_bool canceled;
};

bool played_knows(const char *name);

#endif
