/* SPDX-License-Identifier: Apache-2.0 */
/* Runtime flags, as Docker Model Runner's configure route takes them for its engines, to declared
 * settings of a model.  Pure; any thread. */
#ifndef DAEMON_API_FLAGS_H
#define DAEMON_API_FLAGS_H

#include <jansson.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

/* Puts what flags (an array of strings, as a command line has them, or a flag and its value with a
 * space between in one) say into settings, an object
 * for model_settings_apply.  E_INVALID and E_UNSUPPORTED name the flag. */
int flags_read(const json_t *flags, json_t *settings, struct err *err) MUST_USE;
/* One string with flags, cut at spaces outside quotes: a new array.  No other character means
 * anything. */
int flags_split(struct str text, json_t **ret, struct err *err) MUST_USE;

#endif
