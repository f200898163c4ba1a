/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between daemon and worker over a socketpair: docs/PROTOCOL-ipc.md.
 *
 * A frame is a 16-byte header {u32 magic, u32 payload bytes, u16 type, u16 zero, u32 reserved zero}
 * in host order (both ends are the same binary) and a payload.  Both sides treat the other as
 * hostile: sizes are bounded per type (msg.def), types by phase, payloads are read by bounded
 * getters, and the first violation closes the channel. */
#ifndef LIB_IPC_FRAME_H
#define LIB_IPC_FRAME_H

#include "lib/base/buf.h"
#include "lib/ipc/gen.h"

enum msg_type {
#define MSG(value, name, dir, max_bytes, doc) MSG_##name = value,
#include "lib/ipc/msg.def"
#undef MSG
};

enum msg_dir { MSG_TO_WORKER, MSG_TO_DAEMON };

/* NULL for an unknown type. */
const char *msg_name(uint32_t type);

/* An incremental reader of one direction: feed it bytes, take frames.  Owns its buffer. */
struct frame_reader {
    struct buf in;
    size_t taken;     /* bytes of in already handed out as frames */
    enum msg_dir dir; /* which types are accepted */
};
struct frame {
    enum msg_type type;
    struct str payload; /* borrowed until the next frame_reader_ call */
};
void frame_reader_init(struct frame_reader *r, enum msg_dir dir);
void frame_reader_release(struct frame_reader *r);
int frame_reader_feed(struct frame_reader *r, const void *p, size_t n, struct err *err) MUST_USE;
/* 1 and a frame, 0 when more bytes are needed, negative E_FORMAT / E_LIMIT on a violation. */
int frame_reader_next(struct frame_reader *r, struct frame *ret, struct err *err) MUST_USE;

/* Appends a whole frame to out. */
int frame_write(struct buf *out, enum msg_type type, const void *payload, size_t n,
                struct err *err) MUST_USE;

/* Bounded writing and reading of payload fields.  Getters return false past the end, and stay
 * false. */
struct cursor {
    const char *p;
    size_t left;
    bool bad;
};
void put_u8(struct buf *b, uint8_t v);
void put_u32(struct buf *b, uint32_t v);
void put_u64(struct buf *b, uint64_t v);
void put_f32(struct buf *b, float v);
void put_f64(struct buf *b, double v);
void put_str(struct buf *b, struct str s); /* u32 length, bytes */
bool get_u8(struct cursor *c, uint8_t *ret);
bool get_u32(struct cursor *c, uint32_t *ret);
bool get_u64(struct cursor *c, uint64_t *ret);
bool get_f32(struct cursor *c, float *ret);
bool get_f64(struct cursor *c, double *ret);
bool get_str(struct cursor *c, size_t max, struct str *ret); /* borrowed */

/* The layout of prepared weights (docs/STORE.md), which names their files: the worker's
 * PANELS_VERSION; a static assertion there holds the two together. */
#define PREPARED_VERSION 1

/* Whose weights: those of a worker's model, or of the one that guesses for it. */
enum weights_of { WEIGHTS_OF_MODEL, WEIGHTS_OF_DRAFT, WEIGHTS_N };

/* Flags of TOKENIZE. */
#define MSG_TOKENIZE_ADD_SPECIAL   1u /* put what the model wants around a text */
#define MSG_TOKENIZE_PARSE_SPECIAL 2u /* text that spells a control token is that token */

/* Typed payloads (codec in msg.c).  Decoders check everything and fill arena-owned memory where
 * they must. */
struct msg_load { /* LOAD: how to open and run the model; the files' descriptors arrive beside it */
    struct str model_name; /* for messages and logs */
    uint32_t n_fds;
    const struct str *file_names; /* [n_fds], for messages */
    uint32_t n_draft_fds; /* the last ones of them are the draft model's; 0: there is none */
    bool may_lack_draft;  /* of another vocabulary, it is left away and the model loaded */
    uint32_t n_threads, n_ctx, max_num_seqs, max_num_batched_tokens, block_size, kv_type;
    bool no_prefix_cache;
    bool has_prepared[WEIGHTS_N]; /* one more descriptor behind the files': its prepared weights */
    uint32_t n_speculate;         /* tokens guessed ahead of each answer; 0: none */
    float min_acceptance;         /* part of its guesses that must come true, or it gets no more */
    uint64_t kv_cache_bytes;      /* 0: as many blocks as max_num_seqs x n_ctx need */
    struct str cpu_level;         /* empty: best */
    struct str chat_template;     /* empty: the model's own */
};
struct msg_plan {           /* PLAN: with every 0 of LOAD replaced */
    uint64_t weight_bytes;  /* mapped */
    uint64_t kv_bytes;      /* n_blocks of block_bytes */
    uint64_t scratch_bytes; /* activations, logits, tables */
    uint64_t other_bytes;   /* vocabulary, template, queues */
    uint64_t block_bytes;
    uint32_t n_blocks, block_size, n_ctx, max_num_seqs, kv_type;
};
struct msg_pong { /* PONG */
    uint64_t cookie;
    uint32_t n_running, n_waiting, n_blocks_used, n_blocks;
    uint64_t n_preemptions, n_drafted, n_accepted;
};
struct msg_attached { /* ATTACHED */
    uint32_t code;    /* enum err_code; 0: it computes from them now */
    struct str why;
};
struct msg_progress {     /* PROGRESS */
    struct str what;      /* a few words */
    uint64_t done, total; /* total 0: unknown */
};
struct msg_prepared { /* of LOADED: the prepared weights of the model or its draft model */
    uint64_t n_bytes; /* of their file; 0: its kernels want none */
    bool is_used;     /* it computes from those that came with LOAD */
};
struct msg_loaded { /* LOADED */
    uint64_t weight_bytes, kv_bytes, scratch_bytes;
    uint64_t draft_weight_bytes; /* of weight_bytes the draft model's; 0: there is none */
    uint32_t n_ctx, n_vocab, n_layer;
    uint64_t n_params;
    struct msg_prepared prepared[WEIGHTS_N];
    bool has_chat_template, has_text;
    struct str arch, quant, cpu_level, summary;
    struct str draft_refusal; /* why the draft model was left away; empty: it was not */
};
int msg_load_encode(struct buf *out, const struct msg_load *m, struct err *err) MUST_USE;
int msg_load_decode(struct str payload, struct arena *a, struct msg_load *ret,
                    struct err *err) MUST_USE;
int msg_loaded_encode(struct buf *out, const struct msg_loaded *m, struct err *err) MUST_USE;
int msg_loaded_decode(struct str payload, struct arena *a, struct msg_loaded *ret,
                      struct err *err) MUST_USE;
int msg_plan_encode(struct buf *out, const struct msg_plan *m, struct err *err) MUST_USE;
/* Also E_FORMAT for a sum that overflows. */
int msg_plan_decode(struct str payload, struct msg_plan *ret, struct err *err) MUST_USE;
int msg_pong_encode(struct buf *out, const struct msg_pong *m, struct err *err) MUST_USE;
int msg_pong_decode(struct str payload, struct msg_pong *ret, struct err *err) MUST_USE;
int msg_attached_encode(struct buf *out, const struct msg_attached *m, struct err *err) MUST_USE;
int msg_attached_decode(struct str payload, struct msg_attached *ret, struct err *err) MUST_USE;
int msg_progress_encode(struct buf *out, const struct msg_progress *m, struct err *err) MUST_USE;
int msg_progress_decode(struct str payload, struct msg_progress *ret, struct err *err) MUST_USE;
int msg_generate_encode(struct buf *out, uint64_t request_id, const struct gen_request *r,
                        struct err *err) MUST_USE;
/* ret is initialised by the callee and released by the caller on success. */
int msg_generate_decode(struct str payload, uint64_t *ret_id, struct gen_request *ret,
                        struct err *err) MUST_USE;
int msg_event_encode(struct buf *out, const struct gen_event *e, struct err *err) MUST_USE;
int msg_event_decode(struct str payload, struct arena *a, struct gen_event *ret,
                     struct err *err) MUST_USE;

#endif
