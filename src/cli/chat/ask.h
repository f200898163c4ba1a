/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation with one model through the daemon, or a series of completions: what is said, and
 * one question and its answer.  Knows no terminal but the output it is given.  Main thread. */
#ifndef CLI_CHAT_ASK_H
#define CLI_CHAT_ASK_H

#include "cli/chat/output.h"
#include "cli/client.h"

struct chat { /* owns everything but the output */
    struct client client;
    char *asked_for; /* the model as the user named it: a name, or a path */
    char *model;     /* the name the daemon knows it by; NULL before chat_load */
    char *digest;    /* of the model, from its last answer or list entry; NULL while unknown */
    int64_t n_ctx;   /* the longest that prompt and answer may be together; -1: unknown */
    bool is_chat;    /* else completions */
    bool has_template;
    json_t *params;   /* what every request carries */
    json_t *messages; /* the turns so far, without the system message */
    char *system;     /* NULL: none */
    bool has_keep_alive;
    int64_t keep_alive_s; /* -1: for ever */
    bool is_streaming, is_json, is_verbose;
    struct output *out; /* borrowed */
    struct answer {
        struct buf text, thinking;
        uint64_t seed;
        bool is_stopped; /* by the user, or by what went wrong */
        char finish[32];
        int64_t asked_us, first_us;              /* first: of its text; 0: none */
        int64_t n_prompt, n_cached, n_generated; /* -1: unknown */
        double tokens_per_s; /* by the engine's clock, after the first; 0: unknown */
        char fingerprint[80];
    } answer; /* the last one */
};

/* What the user asked about the way to ask. */
enum chat_mode { CHAT_BY_TEMPLATE, CHAT_ALWAYS, CHAT_NEVER };

/* model: as the user named it. */
int chat_init(struct chat *c, const struct config *cfg, const char *model, struct output *out,
              struct err *err) MUST_USE;
void chat_release(struct chat *c);
/* From now on interrupt.h, which was started, ends requests. */
void chat_heed_interrupts(struct chat *c);

/* Makes sure that a daemon answers and has the model loaded, showing progress; settles is_chat.
 * E_CANCELED when interrupted. */
int chat_load(struct chat *c, enum chat_mode mode, struct err *err) MUST_USE;
/* Declares text as the model's chat template in the daemon, for all its clients; text.p NULL: the
 * model's own again. */
int chat_set_template(struct chat *c, struct str text, struct err *err) MUST_USE;
/* Asks for one token of a conversation, to hear why it cannot be had. */
int chat_try(struct chat *c, struct err *err) MUST_USE;

/* Asks; the answer is shown, and becomes a turn when in a chat.  E_CANCELED when interrupted: what
 * came until then, if anything, stays as a turn marked as stopped.  After any other failure the
 * turn is as if it had never been; what was shown of it was shown. */
int chat_ask(struct chat *c, const char *prompt, size_t len, struct err *err) MUST_USE;
/* Whether the last answer ended because the context did. */
bool chat_is_full(const struct chat *c);
/* Forgets the last question and its answer; false: there is none. */
bool chat_undo(struct chat *c);
/* The last question (borrowed), or NULL. */
const json_t *chat_last_question(const struct chat *c);
/* "12 tokens in 0.3 s ..." of the last answer. */
void chat_put_timing(const struct chat *c, struct buf *out);

#endif
