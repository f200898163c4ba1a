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

#endif
