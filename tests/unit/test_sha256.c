/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 in pieces, put away and taken up at every length, against the whole; FIPS 180-4's
 * examples. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/oci/sha256.h"

static void whole(const void *p, size_t n, char ret[SHA256_STRING_CHARS + 1])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_add(&s, p, n);
    sha256_end(&s, ret);
}

static void test_examples(void **state)
{
    (void)state;
    char d[SHA256_STRING_CHARS + 1];
    whole("", 0, d);
    assert_string_equal(d,
                        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    whole("abc", 3, d);
    assert_string_equal(d,
                        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    whole("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, d);
    assert_string_equal(d,
                        "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_states(void **state)
{
    (void)state;
    unsigned char text[300], bytes[SHA256_STATE_BYTES];
    char want[SHA256_STRING_CHARS + 1], got[SHA256_STRING_CHARS + 1];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (unsigned char)(i * 37);
    whole(text, sizeof(text), want);
    for (size_t at = 0; at <= sizeof(text); at++) {
        struct sha256 s;
        sha256_init(&s);
        sha256_add(&s, text, at);
        sha256_save(&s, bytes);
        memset(&s, 0xa5, sizeof(s));
        assert_true(sha256_load(&s, bytes, sizeof(bytes)));
        assert_true(s.n_bytes == at);
        sha256_add(&s, text + at, sizeof(text) - at);
        sha256_end(&s, got);
        assert_string_equal(got, want);
    }
    struct sha256 s;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        struct sha256 broken;
        sha256_init(&s);
        sha256_add(&s, text, 100);
        sha256_save(&s, bytes);
        bytes[i] ^= 1;
        assert_false(sha256_load(&broken, bytes, sizeof(bytes)));
        assert_true(broken.n_bytes == 0);
    }
    assert_false(sha256_load(&s, bytes, sizeof(bytes) - 1));
}

/* 2^29 bytes and more: the count of bits leaves its lower word. */
static void test_long_states(void **state)
{
    (void)state;
    static unsigned char piece[1 << 20];
    unsigned char bytes[SHA256_STATE_BYTES];
    char want[SHA256_STRING_CHARS + 1], got[SHA256_STRING_CHARS + 1];
    struct sha256 s, t;
    sha256_init(&s);
    for (int i = 0; i < 515; i++)
        sha256_add(&s, piece, sizeof(piece));
    sha256_add(&s, piece, 13);
    sha256_save(&s, bytes);
    assert_true(sha256_load(&t, bytes, sizeof(bytes)));
    sha256_add(&s, piece, 99);
    sha256_add(&t, piece, 99);
    sha256_end(&s, want);
    sha256_end(&t, got);
    assert_string_equal(got, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_long_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
