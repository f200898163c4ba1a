/* SPDX-License-Identifier: Apache-2.0 */
/* Jinja templates, the language of chat templates: compiled once, rendered many times, always
 * bounded.
 *
 * Semantics: Jinja2 3.1 as transformers sets it up for chat templates
 * (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, `tojson` without HTML
 * escapes, `strftime_now`, `raise_exception`).  No access to anything outside the given context.
 * Steps, depth, memory and output are limited (limits.h).
 *
 * A program is read-only after compilation and may be rendered from several threads at once. */
#ifndef WORKER_TEXT_JINJA_H
#define WORKER_TEXT_JINJA_H

#include <jansson.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

struct jinja;

/* E_FORMAT with the line of the mistake; E_LIMIT. */
int jinja_compile(struct str source, struct jinja **ret_jinja, struct err *err) MUST_USE;
void jinja_free(struct jinja *j); /* NULL is fine */

/* Where bytes of the output came from. */
struct jinja_run {
    size_t len;    /* bytes of output, in order */
    bool is_input; /* from a string that the context marked as input (or made from one) */
};

struct jinja_output {
    struct buf text;        /* owned */
    struct jinja_run *runs; /* owned; lens add up to text.len */
    size_t n_runs, cap_runs;
};
void jinja_output_init(struct jinja_output *o);
void jinja_output_release(struct jinja_output *o);

struct jinja_options {
    const json_t *context;  /* object: the template's variables; borrowed */
    const char *input_keys; /* comma-separated top-level variables whose strings are input, e.g.
                               "messages,tools,documents"; NULL: none */
    int64_t now_unix;       /* for strftime_now; taken as UTC */
};

/* Renders into *out (initialised by the caller).  E_INVALID: the template called raise_exception
 * (its message), or used what the context lacks; E_LIMIT: a bound was reached; E_FORMAT: a mistake
 * found at run time. */
int jinja_render(const struct jinja *j, const struct jinja_options *opt, struct jinja_output *out,
                 struct err *err) MUST_USE;

/* Whether the template's text reads the variable anywhere ("tools", "enable_thinking"). */
bool jinja_uses(const struct jinja *j, const char *name);

#endif
