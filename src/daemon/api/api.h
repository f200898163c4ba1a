/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP API over the runner: routes, guards, OpenAI's dialect, management.
 *
 * Owns nothing but itself; borrows the runner.  Its callbacks are what an httpd_config wants;
 * they run on HTTP threads.  Answers of generations are given on the runner's loop thread. */
#ifndef DAEMON_API_API_H
#define DAEMON_API_API_H

#include "daemon/runner/runner.h"
#include "lib/net/httpd.h"

struct guard;
struct registry;
struct watch;

struct api_config {
    struct runner *runner;
    struct guard *guard;         /* borrowed; NULL: this machine's programs, without keys */
    struct watch *watch;         /* borrowed; may be NULL */
    struct store *store;         /* borrowed; NULL: there is none */
    const char *no_store;        /* why there is none, borrowed; "" where there is one */
    const char *store_path;      /* for people; may be NULL */
    struct registry *registry;   /* borrowed; there is one with a store */
    const char *models_dirs;     /* as configured, for GET /berth/v1/status; may be NULL */
    const char *host;            /* what httpd listens on */
    uint32_t keep_alive_ms;      /* silence after which a stream says so; 0: fifteen seconds */
    uint64_t request_timeout_ms; /* of requests that do not say; 0: none */
    void (*shutdown)(void *ctx); /* POST /berth/v1/shutdown; called once its answer is given */
    void *ctx;
};

struct api;

struct api *api_new(const struct api_config *cfg);
void api_free(struct api *a); /* waits for jobs; requests may be gone already */
/* The server, once there is one: for GET /berth/v1/status. */
void api_set_httpd(struct api *a, struct httpd *h);
/* The daemon is about to stop: /readyz says so from now on. */
void api_set_draining(struct api *a);
/* Transfers and checks of the store end with an error; what came of a pull stays for the next. */
void api_stop_jobs(struct api *a);

void api_on_headers(void *api, struct httpd_request *r);
void api_on_request(void *api, struct httpd_request *r);
void api_on_refusal(void *api, struct httpd_request *r, int status, const char *message);
void api_on_done(void *api, struct httpd_request *r, const struct httpd_result *result);

#endif
