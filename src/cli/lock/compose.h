/* SPDX-License-Identifier: Apache-2.0 */
/* The models that a Compose file declares: the top-level `models:` (compose-spec, "Models"), and
 * services of `provider: {type: model}`.  Nothing else of the file is looked at.  Main thread. */
#ifndef CLI_LOCK_COMPOSE_H
#define CLI_LOCK_COMPOSE_H

#include <jansson.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define COMPOSE_MAX_BYTES (1u << 20)

/* The value of a variable for ${NAME}; NULL: unset. */
typedef const char *(*compose_env_fn)(const char *name);
/* What is odd and stops nothing, with its line. */
typedef void (*compose_note_fn)(void *ctx, const char *sentence);

/* text: the file's.  *ret (new reference): an array, in the file's order, of {"key", "model",
 * "context_size"?, "runtime_flags"?: [...]}.  E_FORMAT with line and column; E_INVALID for what no
 * model may say; E_UNSUPPORTED when libyaml is not there. */
int compose_models(const char *name, struct str text, compose_env_fn env, compose_note_fn note,
                   void *ctx, json_t **ret, struct err *err) MUST_USE;

#endif
