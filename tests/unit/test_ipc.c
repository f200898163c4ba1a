/* SPDX-License-Identifier: Apache-2.0 */
/* lib/ipc: frames that are cut, lie or go the wrong way; messages there and back; the check of a
 * request. */
#include "tests/support/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"

static void frames_survive_any_cut(void **state)
{
    (void)state;
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, 1 << 20);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(frame_write(&out, i % 2 ? MSG_PING : MSG_CANCEL, &i, sizeof(i), &err), 0);
    assert_int_equal(frame_write(&out, MSG_SHUTDOWN, NULL, 0, &err), 0);
    for (size_t step = 1; step < 60; step++) {
        struct frame_reader r;
        struct frame f;
        uint64_t n = 0;
        frame_reader_init(&r, MSG_TO_WORKER);
        for (size_t at = 0; at < out.len; at += step) {
            assert_int_equal(frame_reader_feed(&r, out.data + at, MIN_OF(step, out.len - at), &err),
                             0);
            while (frame_reader_next(&r, &f, &err) == 1) {
                if (n < 20) {
                    assert_int_equal(f.payload.len, sizeof(n));
                    assert_memory_equal(f.payload.p, &n, sizeof(n));
                }
                assert_int_equal(f.type, n == 20 ? MSG_SHUTDOWN : n % 2 ? MSG_PING : MSG_CANCEL);
                n++;
            }
        }
        assert_int_equal(n, 21);
        frame_reader_release(&r);
    }
    buf_release(&out);
}

/* A header of these values: what the reader says. */
static int read_header(uint32_t magic, uint32_t bytes, uint16_t type, uint16_t zero,
                       uint32_t reserved, struct err *err)
{
    struct {
        uint32_t magic, bytes;
        uint16_t type, zero;
        uint32_t reserved;
    } h = {magic, bytes, type, zero, reserved};
    struct frame_reader r;
    struct frame f;
    frame_reader_init(&r, MSG_TO_DAEMON);
    assert_int_equal(frame_reader_feed(&r, &h, sizeof(h), err), 0);
    int rc = frame_reader_next(&r, &f, err);
    frame_reader_release(&r);
    return rc;
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct buf out;
    uint32_t magic;
    buf_init(&out, 100);
    assert_int_equal(frame_write(&out, MSG_PONG, NULL, 0, &err), 0);
    memcpy(&magic, out.data, sizeof(magic));
    buf_release(&out);
    assert_int_equal(read_header(magic, 0, MSG_PONG, 0, 0, &err), 1);
    assert_int_equal(read_header(magic, 1, MSG_PONG, 0, 0, &err), 0);
    assert_int_equal(read_header(magic + 1, 0, MSG_PONG, 0, 0, &err), -E_FORMAT);
    assert_int_equal(read_header(magic, 0, 9999, 0, 0, &err), -E_FORMAT);
    assert_int_equal(read_header(magic, 0, MSG_LOAD, 0, 0, &err), -E_FORMAT); /* the other way */
    assert_int_equal(read_header(magic, 0, MSG_PONG, 1, 0, &err), -E_FORMAT);
    assert_int_equal(read_header(magic, 0, MSG_PONG, 0, 1, &err), -E_FORMAT);
    assert_int_equal(read_header(magic, LIMIT_MSG_SMALL_BYTES + 1, MSG_PONG, 0, 0, &err), -E_LIMIT);
    assert_int_equal(read_header(magic, UINT32_MAX, MSG_TEXT, 0, 0, &err), -E_LIMIT);
}

static void every_message_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(msg_name(MSG_GENERATE), "GENERATE");
    assert_null(msg_name(0));
    assert_null(msg_name(1));
}

static void request_fill(struct gen_request *r)
{
    static const int32_t tokens[] = {1, 2, 3}, stop_tokens[] = {7};
    static const struct str stops[] = {{"\n\n", 2}, {"\xc3\xa9nd", 4}};
    static const struct gen_logit_bias bias[] = {{5, -100.0f}, {6, 1.5f}};
    gen_request_init(r);
    r->input = GEN_INPUT_TOKENS;
    r->text = STR_LIT("text");
    r->tokens = tokens;
    r->n_tokens = ARRAY_LEN(tokens);
    r->messages_json = STR_LIT("[]");
    r->tools_json = STR_LIT("[1]");
    r->kwargs_json = STR_LIT("{}");
    r->params = (struct gen_params){
        .max_tokens = 10,
        .min_tokens = 2,
        .n = 3,
        .has_seed = true,
        .seed = UINT64_MAX,
        .priority = -7,
        .temperature = 0.5f,
        .top_k = 40,
        .top_p = 0.25f,
        .min_p = 0.125f,
        .repetition_penalty = 1.5f,
        .presence_penalty = -1.0f,
        .frequency_penalty = 2.0f,
        .want_logprobs = true,
        .top_logprobs = 5,
        .ignore_eos = true,
        .add_special = false,
        .echo = true,
        .include_stop = true,
        .show_special = true,
    };
    r->cache_salt = UINT64_MAX - 1;
    r->stops = stops;
    r->n_stops = ARRAY_LEN(stops);
    r->stop_tokens = stop_tokens;
    r->n_stop_tokens = ARRAY_LEN(stop_tokens);
    r->logit_bias = bias;
    r->n_logit_bias = ARRAY_LEN(bias);
}

static void request_encode(struct buf *b)
{
    struct gen_request r;
    struct err err = ERR_INIT;
    request_fill(&r);
    buf_init(b, LIMIT_MSG_BYTES);
    assert_int_equal(msg_generate_encode(b, 77, &r, &err), 0);
    gen_request_release(&r);
}

static void generate_comes_back_whole(void **state)
{
    (void)state;
    struct buf b;
    struct err err = ERR_INIT;
    struct gen_request want, got;
    uint64_t id = 0;
    request_encode(&b);
    request_fill(&want);
    assert_int_equal(msg_generate_decode((struct str){b.data, b.len}, &id, &got, &err), 0);
    memset(b.data, 0xAA, b.len); /* nothing may point into the frame */
    assert_int_equal(id, 77);
    assert_int_equal(got.input, want.input);
    assert_true(str_eq(got.text, want.text) && str_eq(got.messages_json, want.messages_json));
    assert_true(str_eq(got.tools_json, want.tools_json) &&
                str_eq(got.kwargs_json, want.kwargs_json));
    assert_int_equal(got.n_tokens, 3);
    assert_memory_equal(got.tokens, want.tokens, 3 * sizeof(int32_t));
    struct buf again;
    buf_init(&again, LIMIT_MSG_BYTES);
    struct buf first;
    request_encode(&first);
    assert_int_equal(msg_generate_encode(&again, 77, &got, &err), 0);
    assert_int_equal(again.len, first.len);
    assert_memory_equal(again.data, first.data, first.len); /* so every field is as it was */
    assert_int_equal(got.params.seed, UINT64_MAX);
    assert_true(str_is(got.stops[1], "\xc3\xa9nd"));
    gen_request_release(&got);
    buf_release(&again);
    buf_release(&first);
    buf_release(&b);
    gen_request_release(&want);
}

static void generate_of_any_other_length_is_refused(void **state)
{
    (void)state;
    struct buf b;
    struct gen_request got;
    uint64_t id;
    request_encode(&b);
    for (size_t n = 0; n < b.len; n++) {
        struct err err = ERR_INIT;
        assert_int_equal(msg_generate_decode((struct str){b.data, n}, &id, &got, &err), -E_FORMAT);
    }
    struct err err = ERR_INIT;
    buf_append_char(&b, 0);
    assert_int_equal(msg_generate_decode((struct str){b.data, b.len}, &id, &got, &err), -E_FORMAT);
    buf_release(&b);
}

/* Every byte at every value of interest: decoded or refused, never more memory than the frame could
 * mean. */
static void generate_with_any_byte_changed_is_harmless(void **state)
{
    (void)state;
    static const unsigned char values[] = {0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF};
    struct buf b;
    request_encode(&b);
    for (size_t i = 0; i < b.len; i++) {
        char old = b.data[i];
        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            struct gen_request got;
            struct err err = ERR_INIT;
            uint64_t id;
            b.data[i] = (char)values[v];
            if (msg_generate_decode((struct str){b.data, b.len}, &id, &got, &err) == 0) {
                assert_true(got.arena.used_bytes < 4096);
                gen_request_release(&got);
            } else {
                assert_true(err.msg[0] != '\0');
            }
        }
        b.data[i] = old;
    }
    buf_release(&b);
}

static void generate_survives_lack_of_memory(void **state)
{
    (void)state;
    struct buf b;
    request_encode(&b);
    int n_failed = 0;
    for (long n = 0; n < 50; n++) {
        struct gen_request got;
        struct err err = ERR_INIT;
        uint64_t id;
        mem_fault_after(n);
        int rc = msg_generate_decode((struct str){b.data, b.len}, &id, &got, &err);
        mem_fault_after(-1);
        n_failed += rc < 0;
        assert_true(rc == 0 || rc == -E_NOMEM);
        if (rc == 0)
            gen_request_release(&got);
    }
    assert_true(n_failed > 0);
    buf_release(&b);
}

static void event_roundtrip(const struct gen_event *e, struct gen_event *got, struct arena *a,
                            struct buf *b)
{
    struct err err = ERR_INIT;
    buf_clear(b);
    assert_int_equal(msg_event_encode(b, e, &err), 0);
    for (size_t n = 0; n < b->len; n++)
        assert_int_equal(msg_event_decode((struct str){b->data, n}, a, got, &err), -E_FORMAT);
    err = (struct err)ERR_INIT;
    int rc = msg_event_decode((struct str){b->data, b->len}, a, got, &err);
    assert_int_equal(rc, 0);
    assert_int_equal(got->type, e->type);
    assert_int_equal(got->request_id, e->request_id);
}

static void events_come_back_whole(void **state)
{
    (void)state;
    const struct gen_top top[2] = {{1, -0.5f, {"a", 1}}, {2, -INFINITY, {"\xff\xfe", 2}}};
    const struct gen_token tokens[1] = {
        {.token = 9, .logprob = -1.25f, .bytes = {"b", 1}, .top = top, .n_top = 2}};
    struct arena a;
    struct buf b;
    struct gen_event got;
    arena_init(&a, 1 << 20);
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    event_roundtrip(
        &(struct gen_event){
            .type = GEN_EVENT_STARTED, .request_id = 1, .n_prompt = 5, .n_cached = 4},
        &got, &a, &b);
    assert_int_equal(got.n_prompt, 5);
    event_roundtrip(&(struct gen_event){.type = GEN_EVENT_DELTA,
                                        .request_id = 2,
                                        .choice = 1,
                                        .text = STR_LIT("\xc3\xa9"),
                                        .tokens = tokens,
                                        .n_tokens = 1},
                    &got, &a, &b);
    assert_int_equal(got.tokens[0].token, 9);
    assert_int_equal(got.tokens[0].n_top, 2);
    assert_true(isinf(got.tokens[0].top[1].logprob));
    assert_int_equal(got.tokens[0].top[1].bytes.len, 2);
    event_roundtrip(&(struct gen_event){.type = GEN_EVENT_DELTA, .request_id = 2, .n_tokens = 4},
                    &got, &a, &b);
    assert_null(got.tokens);
    assert_int_equal(got.n_tokens, 4);
    event_roundtrip(&(struct gen_event){.type = GEN_EVENT_CHOICE_DONE,
                                        .request_id = 3,
                                        .finish = GEN_FINISH_STOP,
                                        .stop_index = -1,
                                        .n_generated = 7},
                    &got, &a, &b);
    assert_int_equal(got.stop_index, -1);
    event_roundtrip(
        &(struct gen_event){
            .type = GEN_EVENT_DONE, .request_id = 4, .n_generated = 7, .decode_ms = 1.5},
        &got, &a, &b);
    assert_true(got.decode_ms == 1.5);
    event_roundtrip(&(struct gen_event){.type = GEN_EVENT_FAILED,
                                        .request_id = 5,
                                        .code = E_CONTEXT,
                                        .message = STR_LIT("too long")},
                    &got, &a, &b);
    assert_true(str_is(got.message, "too long"));
    arena_release(&a);
    buf_release(&b);
}

static int event_try(const struct gen_event *e)
{
    struct arena a;
    struct buf b;
    struct gen_event got;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    assert_int_equal(msg_event_encode(&b, e, &err), 0);
    int rc = msg_event_decode((struct str){b.data, b.len}, &a, &got, &err);
    arena_release(&a);
    buf_release(&b);
    return rc;
}

static void events_with_bad_values_are_refused(void **state)
{
    (void)state;
    const struct gen_token nan_token = {.token = 9, .logprob = NAN};
    assert_int_equal(
        event_try(&(struct gen_event){.type = GEN_EVENT_DELTA, .text = STR_LIT("\xc3")}),
        -E_FORMAT);
    assert_int_equal(
        event_try(&(struct gen_event){.type = GEN_EVENT_DELTA, .text = STR_LIT("\xed\xa0\x80")}),
        -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){
                         .type = GEN_EVENT_DELTA, .tokens = &nan_token, .n_tokens = 1}),
                     -E_FORMAT);
    assert_int_equal(
        event_try(&(struct gen_event){.type = GEN_EVENT_DELTA, .n_tokens = UINT32_MAX}), -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){.type = GEN_EVENT_DONE, .queue_ms = NAN}),
                     -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){.type = GEN_EVENT_DONE, .queue_ms = -1}),
                     -E_FORMAT);
    assert_int_equal(
        event_try(&(struct gen_event){.type = GEN_EVENT_CHOICE_DONE, .finish = (enum gen_finish)9}),
        -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){.type = GEN_EVENT_FAILED, .code = 0}),
                     -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){.type = GEN_EVENT_FAILED, .code = E_N_CODES}),
                     -E_FORMAT);
    assert_int_equal(event_try(&(struct gen_event){
                         .type = GEN_EVENT_FAILED, .code = 1, .message = STR_LIT("\xff")}),
                     -E_FORMAT);
}

static void load_messages_come_back_whole(void **state)
{
    (void)state;
    const struct str names[2] = {{"a", 1}, {"b.gguf", 6}};
    const struct msg_load want = {.model_name = STR_LIT("m"),
                                  .n_fds = 2,
                                  .file_names = names,
                                  .n_draft_fds = 1,
                                  .may_lack_draft = true,
                                  .n_threads = 3,
                                  .n_ctx = 4,
                                  .max_num_seqs = 5,
                                  .max_num_batched_tokens = 6,
                                  .block_size = 7,
                                  .has_prepared = {[WEIGHTS_OF_DRAFT] = true},
                                  .n_speculate = 5,
                                  .min_acceptance = 0.25f,
                                  .kv_type = 1,
                                  .kv_cache_bytes = 1ull << 40,
                                  .cpu_level = STR_LIT("ref"),
                                  .chat_template = STR_LIT("{{x}}")};
    struct msg_load got;
    struct msg_loaded loaded;
    struct arena a;
    struct buf b;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    assert_int_equal(msg_load_encode(&b, &want, &err), 0);
    assert_int_equal(msg_load_decode((struct str){b.data, b.len}, &a, &got, &err), 0);
    assert_int_equal(got.n_fds, 2);
    assert_true(str_is(got.file_names[1], "b.gguf") && str_is(got.chat_template, "{{x}}"));
    assert_true(got.kv_cache_bytes == 1ull << 40 && got.kv_type == 1 && got.block_size == 7);
    assert_true(got.n_draft_fds == 1 && got.may_lack_draft && got.n_speculate == 5 &&
                got.min_acceptance == 0.25f);
    assert_true(got.has_prepared[WEIGHTS_OF_DRAFT] && !got.has_prepared[WEIGHTS_OF_MODEL]);
    for (size_t n = 0; n < b.len; n++)
        assert_int_equal(msg_load_decode((struct str){b.data, n}, &a, &got, &err), -E_FORMAT);
    buf_clear(&b); /* files that are all the draft model's */
    struct msg_load none = want;
    none.n_draft_fds = 2;
    assert_int_equal(msg_load_encode(&b, &none, &err), 0);
    assert_int_equal(msg_load_decode((struct str){b.data, b.len}, &a, &got, &err), -E_FORMAT);
    buf_clear(&b); /* prepared weights of a draft model, and none is named */
    none.n_draft_fds = 0;
    assert_int_equal(msg_load_encode(&b, &none, &err), 0);
    assert_int_equal(msg_load_decode((struct str){b.data, b.len}, &a, &got, &err), -E_FORMAT);
    buf_clear(&b);
    const struct msg_loaded is = {
        .prepared = {{.n_bytes = 1ull << 40}, {.n_bytes = 4096, .is_used = true}},
        .n_ctx = 9, .has_text = true, .arch = STR_LIT("llama"), .summary = STR_LIT("s"),
        .draft_refusal = STR_LIT("other words")};
    assert_int_equal(msg_loaded_encode(&b, &is, &err), 0);
    assert_int_equal(msg_loaded_decode((struct str){b.data, b.len}, &a, &loaded, &err), 0);
    assert_true(loaded.n_ctx == 9 && loaded.has_text && !loaded.has_chat_template &&
                str_is(loaded.arch, "llama") && str_is(loaded.draft_refusal, "other words"));
    assert_true(loaded.prepared[WEIGHTS_OF_MODEL].n_bytes == 1ull << 40 &&
                !loaded.prepared[WEIGHTS_OF_MODEL].is_used);
    assert_true(loaded.prepared[WEIGHTS_OF_DRAFT].n_bytes == 4096 &&
                loaded.prepared[WEIGHTS_OF_DRAFT].is_used);
    buf_append_char(&b, 'x');
    assert_int_equal(msg_loaded_decode((struct str){b.data, b.len}, &a, &loaded, &err), -E_FORMAT);
    arena_release(&a);
    buf_release(&b);
}

/* --- gen_request_check
 * ----------------------------------------------------------------------------------------- */

static struct gen_request req;

static void reset(void)
{
    gen_request_init(&req);
    req.text = STR_LIT("x");
}

static void expect_invalid(const char *name)
{
    struct err err = ERR_INIT;
    int rc = gen_request_check(&req, &err);
    if (rc != -E_INVALID || strncmp(err.msg, name, strlen(name)) != 0)
        print_error("wanted %s, got %d '%s'\n", name, rc, err.msg);
    assert_int_equal(rc, -E_INVALID);
    assert_int_equal(strncmp(err.msg, name, strlen(name)), 0);
    reset();
}

static void expect_fine(void)
{
    struct err err = ERR_INIT;
    if (gen_request_check(&req, &err) != 0)
        fail_msg("%s", err.msg);
    reset();
}

static void the_check_names_parameter_and_range(void **state)
{
    (void)state;
    static const float bad_temperatures[] = {-0.1f, NAN, INFINITY, -INFINITY, 101.0f};
    reset();
    expect_fine();
    for (size_t i = 0; i < ARRAY_LEN(bad_temperatures); i++) {
        req.params.temperature = bad_temperatures[i];
        expect_invalid("temperature");
    }
    req.params.temperature = 0;
    expect_fine();
    req.params.top_p = 0;
    expect_invalid("top_p");
    req.params.top_p = NAN;
    expect_invalid("top_p");
    req.params.top_p = 1.01f;
    expect_invalid("top_p");
    req.params.min_p = 1;
    expect_fine();
    req.params.min_p = -1;
    expect_invalid("min_p");
    req.params.repetition_penalty = 0;
    expect_invalid("repetition_penalty");
    req.params.presence_penalty = 2.5f;
    expect_invalid("presence_penalty");
    req.params.frequency_penalty = NAN;
    expect_invalid("frequency_penalty");
    req.params.n = 0;
    expect_invalid("n is 0");
    req.params.n = LIMIT_REQUEST_CHOICES + 1;
    expect_invalid("n is 129");
    req.params.want_logprobs = true;
    req.params.top_logprobs = LIMIT_REQUEST_TOP_LOGPROBS;
    expect_fine();
    req.params.want_logprobs = true;
    req.params.top_logprobs = LIMIT_REQUEST_TOP_LOGPROBS + 1;
    expect_invalid("top_logprobs");
    req.params.top_logprobs = 1;
    expect_invalid("top_logprobs");
    req.params.max_tokens = 3;
    req.params.min_tokens = 4;
    expect_invalid("min_tokens");
}

static void the_check_bounds_lists(void **state)
{
    (void)state;
    static struct str stops[LIMIT_REQUEST_STOPS + 1];
    static char long_stop[LIMIT_REQUEST_STOP_BYTES + 1];
    static const int32_t negative[] = {3, -1};
    struct gen_logit_bias bias = {3, 100.0f};
    reset();
    memset(long_stop, 'x', sizeof(long_stop));
    for (size_t i = 0; i < ARRAY_LEN(stops); i++)
        stops[i] = STR_LIT("end");
    req.stops = stops;
    req.n_stops = LIMIT_REQUEST_STOPS;
    expect_fine();
    req.stops = stops;
    req.n_stops = LIMIT_REQUEST_STOPS + 1;
    expect_invalid("stop has 65");
    stops[1] = STR_LIT("");
    req.stops = stops;
    req.n_stops = 2;
    expect_invalid("stop[1] is empty");
    stops[1] = (struct str){long_stop, sizeof(long_stop)};
    req.stops = stops;
    req.n_stops = 2;
    expect_invalid("stop[1] has 1025");
    stops[1] = STR_LIT("\xff");
    req.stops = stops;
    req.n_stops = 2;
    expect_invalid("stop[1] is not valid UTF-8");
    req.stop_tokens = negative;
    req.n_stop_tokens = 2;
    expect_invalid("stop_token_ids[1]");
    req.logit_bias = &bias;
    req.n_logit_bias = 1;
    expect_fine();
    bias.bias = NAN;
    req.logit_bias = &bias;
    req.n_logit_bias = 1;
    expect_invalid("logit_bias of token 3");
    bias = (struct gen_logit_bias){-2, 0};
    req.logit_bias = &bias;
    req.n_logit_bias = 1;
    expect_invalid("logit_bias names token -2");
    req.input = GEN_INPUT_TOKENS;
    expect_invalid("prompt has no tokens");
    req.input = GEN_INPUT_TOKENS;
    req.tokens = negative;
    req.n_tokens = 2;
    expect_invalid("prompt[1]");
    req.input = GEN_INPUT_CHAT;
    expect_invalid("messages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_survive_any_cut),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(every_message_has_a_name),
        cmocka_unit_test(generate_comes_back_whole),
        cmocka_unit_test(generate_of_any_other_length_is_refused),
        cmocka_unit_test(generate_with_any_byte_changed_is_harmless),
        cmocka_unit_test(generate_survives_lack_of_memory),
        cmocka_unit_test(events_come_back_whole),
        cmocka_unit_test(events_with_bad_values_are_refused),
        cmocka_unit_test(load_messages_come_back_whole),
        cmocka_unit_test(the_check_names_parameter_and_range),
        cmocka_unit_test(the_check_bounds_lists),
    };
    return cmocka_run_group_tests_name("ipc", tests, NULL, NULL);
}
