/* SPDX-License-Identifier: Apache-2.0 */
/* Speculation by a draft model: a second, smaller model of the same vocabulary reads along with
 * every answer that is being decoded and guesses its next tokens (Leviathan et al. 2023, "Fast
 * Inference from Transformers via Speculative Decoding").  A guess is sampled as the model's token
 * will be, with the request's parameters and the same random number: the closer the two models, the
 * oftener it is right, whatever the temperature.  As with prompt lookup (speculate.h) it changes
 * speed and no token.
 *
 * Whether guesses pay depends on the machine, the models and how many answers run at once: each way
 * is measured for a few steps, the faster one taken, and the other tried again now and then, ever
 * more rarely as long as it loses (struct pace).
 *
 * The draft has weights, activations and a paged cache of its own, with as many blocks as the
 * model's; a sequence has the same slot in both.  What the draft has not read yet of a text, it
 * reads in pieces of at most ENGINE_PROMPT_BESIDE tokens a step, so that no other answer waits; a
 * text for which its cache has no block gets no guesses.  Owns all that; borrows the file, the
 * kernels, the threads and their samplers.  Scheduler thread. */
#ifndef WORKER_ENGINE_DRAFT_H
#define WORKER_ENGINE_DRAFT_H

#include "worker/engine/plan.h"
#include "worker/engine/sched.h"
#include "worker/engine/weights/prepared.h"

struct draft;

/* Which of two ways to go is faster, found out by going them: without guesses (0) and with (1).
 * Each is tried for PACE_TRY_STEPS steps, the one that gave more tokens a second taken, and the
 * other tried again after PACE_WAIT_MIN steps, after twice as many each time that it loses again,
 * up to PACE_WAIT_MAX.  Reads no clock.  A zeroed one knows nothing. */
#define PACE_TRY_STEPS 6u
#define PACE_WAIT_MIN  64u
#define PACE_WAIT_MAX  4096u

struct pace {
    double ns[2], tokens[2]; /* of a step, fading means */
    uint32_t n[2];           /* steps since that way was last tried anew */
    uint32_t n_left, n_wait; /* steps before the slower way is tried anew */
};

/* The way of the next step. */
bool pace_choose(const struct pace *p);
/* A step of that way gave so many tokens in so many nanoseconds. */
void pace_note(struct pace *p, bool guessed, double ns, double tokens);

/* The draft model of p->config, for a model of n_vocab tokens; samplers [n_threads] for as many.
 * Errors as engine_new has them. */
int draft_new(const struct engine_plan *p, uint32_t n_vocab, const struct kern *kern,
              struct team *team, struct sampler *samplers, struct draft **ret_draft,
              struct err *err) MUST_USE;
void draft_free(struct draft *d); /* NULL is fine */
/* As engine.h has it of the model: what prepared weights it would have for kern, planned once and
 * only if they are wanted; which it has; and those of fd from its next guess on. */
int draft_plan_prepared(struct draft *d, const struct kern *kern, struct err *err) MUST_USE;
const struct prepared *draft_prepared(const struct draft *d);
int draft_attach_prepared(struct draft *d, const struct kern *kern, int fd,
                          struct err *err) MUST_USE;
/* Its cache, for the scheduler, which gives a sequence's blocks back when it stops running. */
struct kv *draft_kv(struct draft *d);

/* Before sched_build: for every sequence that decodes in the next step, up to s->n_speculate
 * guesses to q->draft and how many to q->n_guess; none where that would be slower.  Allocates
 * nothing. */
void draft_guess(struct draft *d, struct sched *s);
/* After the step that followed: how long the two took together. */
void draft_note(struct draft *d, const struct sched *s, uint64_t ns);

/* NULL, or which invariant of its cache is broken.  For tests; slow. */
const char *draft_validate(const struct draft *d, const struct sched *s);

#endif
