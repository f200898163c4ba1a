/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of management routes: small JSON objects whose mistakes are answered where they are seen.
 */
#ifndef DAEMON_API_MANAGE_H
#define DAEMON_API_MANAGE_H

#include <jansson.h>

#include "daemon/api/api_impl.h"

/* The body as an object (new reference), or NULL and the request is answered.  Keys that are not in
 * known, which ends with NULL, are refused; known NULL: the caller looks itself. */
json_t *manage_body(struct httpd_request *r, const char *const *known);
/* A string field of root as a C string.  NULL and the request is answered when it is missing (if
 * required) or of another type, empty or not plain; NULL and *absent when it may be missing and is.
 */
const char *manage_string(struct httpd_request *r, const json_t *root, const char *name,
                          bool required, size_t max, bool *absent);

/* Applies to s what body declares: in its "settings", and in those of its own keys that are not in
 * own, the route's others (ends with NULL). */
int manage_apply(struct model_settings *s, const json_t *body, const char *const *own,
                 struct err *err) MUST_USE;

/* What the body of Docker Model Runner's configure request declares, put into settings, an object
 * for model_settings_apply (dmr.c). */
int dmr_read_configure(const json_t *root, json_t *settings, struct err *err) MUST_USE;

#endif
