/* SPDX-License-Identifier: Apache-2.0 */
/* Every maximum in berth, in one place.  A limit on something from outside is checked where that
 * thing is first read; the error names the limit's value.  Units are in the names. */
#ifndef LIB_BASE_LIMITS_H
#define LIB_BASE_LIMITS_H

/* GGUF (worker/model) */
#define LIMIT_GGUF_KEY_BYTES    65535u
#define LIMIT_GGUF_STRING_BYTES (16u << 20)
#define LIMIT_GGUF_ARRAY_ITEMS  (1u << 26)
#define LIMIT_GGUF_KEYS         65536u
#define LIMIT_GGUF_TENSORS      131072u
#define LIMIT_GGUF_TENSOR_NAME  63u
#define LIMIT_GGUF_DIMS         4u
#define LIMIT_GGUF_ALIGNMENT    (1u << 20)

/* safetensors, DDUF, and what is told of a model (worker/model, lib/ipc) */
#define LIMIT_SAFETENSORS_HEADER_BYTES (100u << 20)
#define LIMIT_FACTS_BYTES              (4u << 20)

/* Models (worker/model, worker/engine) */
#define LIMIT_MODEL_LAYERS  1024u
#define LIMIT_MODEL_HEADS   4096u
#define LIMIT_MODEL_EXPERTS 4096u
#define LIMIT_MODEL_WIDTH   (1u << 20) /* embedding, feed-forward and head widths */
#define LIMIT_MODEL_VOCAB   (1u << 22)
#define LIMIT_MODEL_CONTEXT (1u << 24)

/* Text (worker/text) */
#define LIMIT_TOKEN_BYTES (1u << 16) /* one vocabulary entry */
#define LIMIT_TOKEN_MATCH_BYTES                                                                    \
    1024u /* one in the kinds that look text up by its bytes (all but BPE) */
#define LIMIT_TOKEN_SPECIAL_BYTES   256u         /* one control or user-defined token */
#define LIMIT_VOCAB_TEXT_BYTES      (256u << 20) /* all of them */
#define LIMIT_CHARSMAP_BYTES        (16u << 20)  /* normalisation table of a UGM vocabulary */
#define LIMIT_TEXT_BYTES            (64u << 20)  /* one text to tokenize */
#define LIMIT_TEMPLATE_BYTES        (1u << 20)
#define LIMIT_TEMPLATE_STEPS        2000000u /* evaluated nodes in one rendering */
#define LIMIT_TEMPLATE_DEPTH        128u     /* nested expressions, blocks, macro calls, values */
#define LIMIT_TEMPLATE_MEMORY_BYTES (256u << 20)
#define LIMIT_TEMPLATE_OUTPUT_BYTES (64u << 20)

/* Requests (lib/ipc, worker/engine) */
#define LIMIT_MSG_BYTES            (96u << 20) /* one frame between daemon and worker */
#define LIMIT_MSG_SMALL_BYTES      (1u << 20)
#define LIMIT_MSG_FDS              240u /* files of one model; the kernel passes 253 at once */
#define LIMIT_REQUEST_CHOICES      128u
#define LIMIT_REQUEST_PROMPTS      128u  /* of one HTTP request */
#define LIMIT_REQUEST_ANSWERS      1024u /* prompts times choices of one HTTP request */
#define LIMIT_REQUEST_STOPS        64u
#define LIMIT_REQUEST_STOP_BYTES   1024u
#define LIMIT_REQUEST_LOGIT_BIAS   16384u
#define LIMIT_REQUEST_TOP_LOGPROBS 20u
#define LIMIT_REQUEST_TOOLS        1024u
#define LIMIT_ANSWER_BYTES         (64u << 20) /* one answer that is not streamed, as JSON */
#define LIMIT_REQUESTS_QUEUED      1024u       /* waiting in one worker */
#define LIMIT_REQUESTS_QUEUED_BYTES                                                                \
    (256u << 20) /* of all requests that one worker has or waits for */
#define LIMIT_WORKER_EXTRA_BYTES                                                                   \
    (4ull << 30) /* private memory beyond the plan: vocabulary, queue, prompts */

/* HTTP (lib/net, daemon/api) */
#define LIMIT_HTTP_BODY_BYTES       (32u << 20)
#define LIMIT_HTTP_BODIES_BYTES     (512u << 20) /* of all requests being received or answered */
#define LIMIT_HTTP_REQUEST_ID_BYTES 128u
#define LIMIT_HTTP_CONNECTIONS      12000u
#define LIMIT_HTTP_MEMORY_PER_CONN  (32u << 10) /* request line and headers */
#define LIMIT_HTTP_IDLE_S           120u
#define LIMIT_HTTP_HEADERS          128u /* lines in one head */
#define LIMIT_HTTP_METHOD_BYTES     32u
#define LIMIT_HTTP_TARGET_BYTES     8192u /* RFC 9112, 3 asks for at least 8000 */
#define LIMIT_HTTP_CHUNK_LINE_BYTES 256u  /* a chunk's size and its extensions */
#define LIMIT_HTTP_CHUNK_EXTRA_BYTES                                                               \
    (8u << 10) /* all extensions of a body, and its trailers */
#define LIMIT_HTTP_HEAD_MS          10000u
#define LIMIT_HTTP_WRITE_MS         60000u
#define LIMIT_HTTP_BODY_RATE        1024u /* bytes a second, after LIMIT_HTTP_HEAD_MS of grace */
#define LIMIT_HTTP_WINDOW_BYTES     (1u << 20) /* of a streamed body that nobody has taken yet */
#define LIMIT_RUNTIME_FLAGS         256u /* of one configure request */
#define LIMIT_JSON_DEPTH            512u
#define LIMIT_JSON_VALUES           (1u << 21) /* in one text: some 60 bytes of memory each */
#define LIMIT_STREAM_PENDING_BYTES  (4u << 20) /* unsent to one slow reader */
#define LIMIT_KEYS                  4096u      /* lines of the file of keys */
#define LIMIT_KEYS_FILE_BYTES       (1u << 20)
#define LIMIT_KEY_BYTES             512u
#define LIMIT_ORIGINS               256u /* names in allowed-hosts, entries in allowed-origins */

/* Artifacts (lib/oci, daemon/store, daemon/registry) */
#define LIMIT_OCI_MANIFEST_BYTES   (4u << 20) /* as registries have it */
#define LIMIT_OCI_LAYERS           4096u
#define LIMIT_OCI_CONFIG_BYTES     (4u << 20)
#define LIMIT_OCI_BLOB_BYTES       (1ull << 48)
#define LIMIT_OCI_PATH_BYTES       1024u /* of a file inside a model */
#define LIMIT_OCI_MEDIA_TYPE_BYTES 255u  /* RFC 6838, 4.2: 127 characters on each side */
#define LIMIT_STORE_INDEX_BYTES    (64u << 20)
#define LIMIT_TAR_BYTES            (1ull << 48) /* of one model on its way in */
#define LIMIT_JOBS_RUNNING         8u           /* transfers, checks */
#define LIMIT_JOBS_WAITING         32u

/* Names */
#define LIMIT_MODEL_NAME_BYTES 512u
#define LIMIT_PATH_BYTES       4096u

#endif
