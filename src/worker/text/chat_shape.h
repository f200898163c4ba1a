/* SPDX-License-Identifier: Apache-2.0 */
/* Which shape of messages a template understands, and messages brought into that shape.
 *
 * The API allows a message's content as a string or as a list of parts, and tool call arguments as
 * a string of JSON; templates understand one form or the other.  A template is asked once, by
 * rendering a message of each form and looking for its text.  Pure but for memory; any thread. */
#ifndef WORKER_TEXT_CHAT_SHAPE_H
#define WORKER_TEXT_CHAT_SHAPE_H

#include <jansson.h>

#include "worker/text/jinja.h"

struct chat_shape {
    bool takes_parts; /* a list of parts comes out as its text; else parts are joined by newlines */
    bool wants_parts; /* a plain string does not come out, so it is put into a part */
    bool wants_arguments; /* tool call arguments must be an object, not JSON in a string */
};

void chat_shape_probe(const struct jinja *j, struct chat_shape *ret);

/* A new reference to messages in the template's shape (the same object when nothing needs
 * changing). E_INVALID: a part of a kind that cannot be text; E_NOMEM. */
int chat_shape_messages(const struct chat_shape *s, const json_t *messages, json_t **ret,
                        struct err *err) MUST_USE;

#endif
