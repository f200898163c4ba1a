/* SPDX-License-Identifier: Apache-2.0 */
/* Loads that a request waits for: POST /berth/v1/load and the header X-Preload-Only. */
#ifndef DAEMON_API_LOAD_H
#define DAEMON_API_LOAD_H

#include "daemon/api/api_impl.h"

enum load_kind {
    LOAD_SILENT, /* answered with 200 and nothing */
    LOAD_INFO,   /* with what is known of the model */
    LOAD_STREAM  /* the same as the last of events, of which the earlier ones tell how far it is */
};

/* Starts loading and answers r when it is done or has failed.  Borrows model. */
void load_start(struct api *a, struct httpd_request *r, const char *model,
                const struct run_options *opt, enum load_kind kind);

#endif
