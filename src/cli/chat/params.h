/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters that shape an answer, as flags of `berth run` and as `/set parameter` names them:
 * one table.  Values live in a JSON object under the API's names; what is not in it takes the
 * server's default.  Main thread. */
#ifndef CLI_CHAT_PARAMS_H
#define CLI_CHAT_PARAMS_H

#include <jansson.h>

#include "cli/args.h"

/* Puts every parameter that a flag gives into params. */
int params_from_flags(const struct cli_args *a, json_t *params, struct err *err) MUST_USE;
/* Sets one, checked; the value "default" takes it out again.  name is the API's, a flag's or one
 * that Ollama uses; an unknown one names the nearest. */
int params_set(json_t *params, const char *name, const char *value, struct err *err) MUST_USE;
/* The name as the API has it, or NULL. */
const char *params_name(const char *name);
/* Takes over what given holds (a saved conversation's), each checked as params_set does. */
int params_take(json_t *params, const json_t *given, struct err *err) MUST_USE;
/* Appends a line for each: its name and its value, or "default" and what it does. */
void params_show(const json_t *params, struct buf *out);

#endif
