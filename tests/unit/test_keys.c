/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/api/keys: the file and who may read it, matching, scopes, counts, reload while in use. */
#include "tests/support/cmocka_all.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/api/keys.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

static char path[64];

static void put(const char *text, size_t len, mode_t mode)
{
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int open_text(const char *text, struct keys **k, struct err *err)
{
    put(text, strlen(text), 0600);
    return keys_open(path, k, err);
}

static bool matches(struct keys *k, const char *key, const char *name, uint32_t scopes)
{
    struct key_match m = {0};
    return keys_match(k, str_from(key), &m) && strcmp(m.name, name) == 0 && m.scopes == scopes;
}

static void knows_its_keys_and_no_others(void **state)
{
    (void)state;
    struct keys *k;
    struct key_match m;
    struct err err = ERR_INIT;
    /* printf %s abcdefghijklmnopqrstuvwxyz | sha256sum */
    assert_int_equal(
        open_text("# who may do what\n\n"
                  "  alice\tinfer  0123456789abcdef-alice  # hers\r\n"
                  "bob@example.org manage,infer 0123456789abcdef-bob\n"
                  "   # an indented comment\n"
                  "carol manage "
                  "sha256:71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73",
                  &k, &err),
        0);
    assert_int_equal(keys_n(k), 3);
    assert_true(matches(k, "0123456789abcdef-alice", "alice", KEY_INFER));
    assert_true(matches(k, "0123456789abcdef-bob", "bob@example.org", KEY_INFER | KEY_MANAGE));
    assert_true(matches(k, "abcdefghijklmnopqrstuvwxyz", "carol", KEY_MANAGE));
    static const char *const wrong[] = {
        "",
        "a",
        "0123456789abcdef-alic",
        "0123456789abcdef-alice ",
        "0123456789ABCDEF-alice",
        "alice",
        "# hers",
        "sha256:71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73",
        "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(keys_match(k, str_from(wrong[i]), &m));
    assert_false(keys_match(k, (struct str){NULL, 0}, &m));
    assert_false(keys_match(k, STR_LIT("0123456789abcdef-alice\0"), &m));
    char *big = mem_alloc(1 << 20);
    memset(big, 'a', 1 << 20);
    assert_false(keys_match(k, (struct str){big, 1 << 20}, &m));
    mem_free(big);
    keys_free(k);
}

static void a_wrong_line_is_named_and_not_quoted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no key in it"},
        {"# nothing\n\n", "no key in it"},
        {"a infer secretsecretsecret\nb infer\n", "line 2: it is not NAME SCOPES KEY"},
        {"secretsecretsecret\n", "line 1: it is not NAME SCOPES KEY"},
        {"a infer secretsecretsecret more\n", "line 1: it is not NAME SCOPES KEY"},
        {"\n\na inferr secretsecretsecret\n", "line 3: the scopes must be"},
        {"a infer, secretsecretsecret\n", "line 1: the scopes must be"},
        {"a ,infer secretsecretsecret\n", "line 1: the scopes must be"},
        {"a infer,,manage secretsecretsecret\n", "line 1: the scopes must be"},
        {"a/b infer secretsecretsecret\n", "line 1: the name must be"},
        {"\xc3\xa4 infer secretsecretsecret\n", "line 1: the name must be"},
        {"a infer s\xc3\xa4secretsecretsecret\n", "line 1: the key must be of visible"},
        {"a infer sha256:secretsecretsecret\n", "line 1: after sha256:"},
        {"a infer sha256:71C480DF93D6AE2F1EFAD1447C66C9525E316218CF51FC8D9ED832F2DAF18B73\n",
         "line 1: after sha256:"},
        {"a infer secretsecretsecret1\na manage secretsecretsecret2\n", "line 2: its name"},
        {"a infer secretsecretsecret1\nb manage secretsecretsecret1\n", "line 2: its key"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct keys *k = NULL;
        struct err err = ERR_INIT;
        assert_true(open_text(cases[i].text, &k, &err) < 0);
        assert_null(k);
        if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, path))
            fail_msg("'%s' says: %s", cases[i].text, err.msg);
        assert_null(strstr(err.msg, "secret"));
    }
}

static void limits_hold(void **state)
{
    (void)state;
    struct keys *k = NULL;
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, 4 << 20);
    buf_append_str(&b, "a infer ");
    for (unsigned i = 0; i < LIMIT_KEY_BYTES; i++)
        buf_append_char(&b, 'k');
    put(b.data, b.len, 0600);
    assert_int_equal(keys_open(path, &k, &err), 0);
    keys_free(k);
    buf_append_char(&b, 'k');
    put(b.data, b.len, 0600);
    assert_int_equal(keys_open(path, &k, &err), -E_INVALID);
    char name[80];
    memset(name, 'n', sizeof(name));
    for (int n = 63; n <= 64; n++) {
        buf_clear(&b);
        buf_printf(&b, "%.*s infer 0123456789abcdef\n", n, name);
        put(b.data, b.len, 0600);
        assert_int_equal(keys_open(path, &k, &err), n == 63 ? 0 : -E_INVALID);
        if (n == 63)
            keys_free(k);
    }
    buf_clear(&b);
    for (unsigned i = 0; i < LIMIT_KEYS; i++)
        buf_printf(&b, "n%u infer 0123456789abcdef%u\n", i, i);
    put(b.data, b.len, 0600);
    assert_int_equal(keys_open(path, &k, &err), 0);
    assert_int_equal(keys_n(k), LIMIT_KEYS);
    assert_true(matches(k, "0123456789abcdef4095", "n4095", KEY_INFER));
    keys_free(k);
    buf_append_str(&b, "one infer more0123456789abcdef\n");
    put(b.data, b.len, 0600);
    assert_int_equal(keys_open(path, &k, &err), -E_LIMIT);
    buf_clear(&b);
    while (b.len <= LIMIT_KEYS_FILE_BYTES)
        buf_append_str(&b, "# a comment of some length, again and again\n");
    put(b.data, b.len, 0600);
    assert_int_equal(keys_open(path, &k, &err), -E_LIMIT);
    buf_release(&b);
}

static void others_may_not_read_the_file(void **state)
{
    (void)state;
    static const char text[] = "a infer 0123456789abcdef\n";
    static const struct {
        mode_t mode;
        int rc;
    } cases[] = {{0600, 0},         {0400, 0},         {0700, 0},         {0640, -E_DENIED},
                 {0604, -E_DENIED}, {0620, -E_DENIED}, {0602, -E_DENIED}, {0777, -E_DENIED}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct keys *k = NULL;
        struct err err = ERR_INIT;
        put(text, strlen(text), cases[i].mode);
        assert_int_equal(keys_open(path, &k, &err), cases[i].rc);
        if (cases[i].rc < 0)
            assert_non_null(strstr(err.msg, "chmod 600"));
        keys_free(k);
        k = NULL;
    }
    struct keys *k = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(keys_open("/dev/zero", &k, &err), -E_INVALID);
    assert_int_equal(keys_open("/", &k, &err), -E_INVALID);
    assert_int_equal(keys_open("/nowhere/at/all", &k, &err), -E_NOTFOUND);
    if (geteuid() == 0) { /* somebody else's file is not ours to trust */
        put(text, strlen(text), 0600);
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_int_equal(keys_open(path, &k, &err), -E_DENIED);
    }
}

/* A field of the entry called name in keys_put_json's array. */
static json_int_t count_of(struct keys *k, const char *name, const char *field)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    keys_put_json(k, &b);
    json_t *list = json_loads(buf_str(&b), 0, NULL);
    assert_true(json_is_array(list));
    json_int_t found = -1;
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
            found = json_integer_value(json_object_get(item, field));
    }
    assert_null(strstr(buf_str(&b), "0123456789abcdef"));
    json_decref(list);
    buf_release(&b);
    return found;
}

static void reload_keeps_counts_and_survives_a_broken_file(void **state)
{
    (void)state;
    struct keys *k;
    struct err err = ERR_INIT;
    assert_int_equal(
        open_text("a infer 0123456789abcdef1\nb infer,manage 0123456789abcdef2\n", &k, &err), 0);
    assert_true(matches(k, "0123456789abcdef1", "a", KEY_INFER));
    keys_count(k, "a", 10, 20);
    keys_count(k, "a", 1, 2);
    keys_count(k, "nobody", 1, 2);
    assert_int_equal(count_of(k, "a", "requests"), 1);
    assert_int_equal(count_of(k, "a", "prompt_tokens"), 11);
    assert_int_equal(count_of(k, "a", "generated_tokens"), 22);
    assert_true(count_of(k, "a", "last_used") > 1500000000);
    assert_int_equal(count_of(k, "b", "last_used"), 0);

    static const char *const broken[] = {"", "a infer\n", "a infer x y\n"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        put(broken[i], strlen(broken[i]), 0600);
        assert_true(keys_reload(k, &err) < 0);
        assert_true(matches(k, "0123456789abcdef2", "b", KEY_INFER | KEY_MANAGE));
    }
    unlink(path);
    assert_true(keys_reload(k, &err) < 0);
    static const char text[] = "c infer 0123456789abcdef3\na manage 0123456789abcdef4\n";
    put(text, strlen(text), 0644);
    assert_true(keys_reload(k, &err) < 0);
    assert_int_equal(keys_n(k), 2);

    put(text, strlen(text), 0600);
    assert_int_equal(keys_reload(k, &err), 0);
    struct key_match m;
    assert_false(keys_match(k, STR_LIT("0123456789abcdef1"), &m));
    assert_false(keys_match(k, STR_LIT("0123456789abcdef2"), &m));
    assert_true(matches(k, "0123456789abcdef4", "a", KEY_MANAGE));
    assert_int_equal(count_of(k, "a", "requests"), 2);
    assert_int_equal(count_of(k, "a", "generated_tokens"), 22);
    assert_int_equal(count_of(k, "c", "requests"), 0);
    keys_free(k);
}

static atomic_bool stop_asking;

static void *ask(void *ctx)
{
    struct keys *k = ctx;
    struct key_match m;
    intptr_t n_wrong = 0;
    while (!atomic_load(&stop_asking)) {
        n_wrong += !keys_match(k, STR_LIT("0123456789abcdef1"), &m) || strcmp(m.name, "a") != 0;
        n_wrong += keys_match(k, STR_LIT("0123456789abcdefX"), &m);
        keys_count(k, "a", 1, 1);
    }
    return (void *)n_wrong;
}

static void reload_while_others_ask(void **state)
{
    (void)state;
    struct keys *k;
    struct err err = ERR_INIT;
    static const char one[] = "a infer 0123456789abcdef1\n";
    static const char two[] = "b infer 0123456789abcdef2\na manage 0123456789abcdef1\n";
    assert_int_equal(open_text(one, &k, &err), 0);
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, k), 0);
    for (int i = 0; i < 100; i++) {
        const char *text = i % 2 ? one : two;
        put(text, strlen(text), 0600);
        assert_int_equal(keys_reload(k, &err), 0);
    }
    atomic_store(&stop_asking, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *n_wrong;
        pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }
    keys_free(k);
}

static void without_memory(void **state)
{
    (void)state;
    struct keys *k = NULL;
    struct err err = ERR_INIT;
    put("a infer 0123456789abcdef1\n", 26, 0600);
    for (long n = 0; n < 2; n++) {
        mem_fault_after(n);
        assert_int_equal(keys_open(path, &k, &err), -E_NOMEM);
        mem_fault_after(-1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_its_keys_and_no_others),
        cmocka_unit_test(a_wrong_line_is_named_and_not_quoted),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(others_may_not_read_the_file),
        cmocka_unit_test(reload_keeps_counts_and_survives_a_broken_file),
        cmocka_unit_test(reload_while_others_ask),
        cmocka_unit_test(without_memory),
    };
    log_init(LOG_LEVEL_ERROR, false, "test");
    snprintf(path, sizeof(path), "/tmp/berth-keys-%d", (int)getpid());
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
