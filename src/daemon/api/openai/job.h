/* SPDX-License-Identifier: Apache-2.0 */
/* A running completion: what lies between one HTTP request and its generations, one per prompt.
 *
 * A job hangs on its request's call and dies with it.  The runner's loop thread holds a reference
 * to the request for each part until that part's last event; the job's lock orders its events
 * against keep-alives, which come from a thread of httpd.  One part that fails ends them all. */
#ifndef DAEMON_API_OPENAI_JOB_H
#define DAEMON_API_OPENAI_JOB_H

#include "daemon/api/api_impl.h"
#include "daemon/api/openai/body.h"

/* Starts what b asks for and answers r with it, now or later; takes b. */
void job_start(struct api *a, struct httpd_request *r, struct api_body *b);

#endif
