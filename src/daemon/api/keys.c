/* SPDX-License-Identifier: Apache-2.0 */
/* Implements keys.h.  The table is replaced as a whole by a reload, under the write lock; counts
 * are atomics, so that matching needs the read lock alone.
 *
 * No message quotes anything of the file but its path: who swaps two fields must not find the key
 * in the log. */
#include "daemon/api/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define HASH_BYTES 32u
#define WEAK_BYTES 16u /* shorter keys are taken, with a warning */
#define SPACES     " \t\r"

struct key {
    char name[64];
    uint32_t scopes;
    unsigned char hash[HASH_BYTES]; /* SHA-256 */
    _Atomic uint64_t n_requests, n_prompt, n_generated;
    _Atomic int64_t last_used; /* Unix time, 0: never */
};

struct table {
    struct key *items; /* owned */
    size_t n;
};

struct keys {
    char *path; /* owned */
    pthread_rwlock_t lock;
    struct table table;
};

static int hash_of(struct str key, unsigned char out[HASH_BYTES])
{
    unsigned n = 0;
    return EVP_Digest(key.p ? key.p : "", key.len, out, &n, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

/* --- the file --- */

/* The next field of a line, empty at its end. */
static struct str field_next(struct str *line)
{
    size_t skip = 0, n = 0;
    while (skip < line->len && strchr(SPACES, line->p[skip]))
        skip++;
    line->p += skip;
    line->len -= skip;
    while (n < line->len && line->p[n] && !strchr(SPACES, line->p[n]))
        n++;
    struct str field = {line->p, n};
    line->p += n;
    line->len -= n;
    return field;
}

static bool is_name(struct str s)
{
    static const char more[] = "._-@+";
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (!c || !strchr(more, c)))
            return false;
    }
    return s.len > 0 && s.len < sizeof(((struct key *)0)->name);
}

/* The KEY_ bits of "infer", "manage" or both with a comma; 0 when it is none of them. */
static uint32_t scopes_of(struct str s)
{
    uint32_t scopes = 0;
    while (s.len) {
        const char *comma = memchr(s.p, ',', s.len);
        struct str word = {s.p, comma ? (size_t)(comma - s.p) : s.len};
        uint32_t bit = str_is(word, "infer") ? KEY_INFER : str_is(word, "manage") ? KEY_MANAGE : 0;
        if (!bit || (comma && word.len + 1 == s.len))
            return 0;
        scopes |= bit;
        s.p += word.len + (comma != NULL);
        s.len -= word.len + (comma != NULL);
    }
    return scopes;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A key's third field: the key, or "sha256:" and its hash in small hex digits. */
static int key_read(struct key *k, struct str s, const char **ret_why)
{
    static const char prefix[] = "sha256:";
    *ret_why = NULL;
    if (str_has_prefix(s, STR_LIT(prefix))) {
        const char *hex = s.p + strlen(prefix);
        *ret_why = "after sha256: there must be 64 digits from 0-9 and a-f";
        if (s.len != strlen(prefix) + 2 * HASH_BYTES)
            return -1;
        for (size_t i = 0; i < HASH_BYTES; i++) {
            int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
            if (high < 0 || low < 0)
                return -1;
            k->hash[i] = (unsigned char)(high << 4 | low);
        }
        return 0;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] <= ' ' || s.p[i] > '~') {
            *ret_why = "the key must be of visible ASCII characters";
            return -1;
        }
    }
    *ret_why = "the key is longer than 512 characters";
    if (s.len > LIMIT_KEY_BYTES)
        return -1;
    *ret_why = "its hash cannot be computed";
    return hash_of(s, k->hash);
}

/* One line that is not empty.  *ret_why says what is wrong with it. */
static int line_read(struct key *k, struct str line, const char **ret_why)
{
    struct str name = field_next(&line), scopes = field_next(&line), key = field_next(&line);
    struct str rest = field_next(&line);
    if (!key.len || (rest.len && rest.p[0] != '#')) {
        *ret_why = "it is not NAME SCOPES KEY";
        return -1;
    }
    if (!is_name(name)) {
        *ret_why = "the name must be 1 to 63 letters, digits or . _ - @ +";
        return -1;
    }
    k->scopes = scopes_of(scopes);
    if (!k->scopes) {
        *ret_why = "the scopes must be infer, manage or infer,manage";
        return -1;
    }
    memcpy(k->name, name.p, name.len);
    if (key_read(k, key, ret_why) < 0)
        return -1;
    if (key.len < WEAK_BYTES)
        log_warn("the key named %s is short enough to be guessed; `openssl rand -hex 24` makes a "
                 "better one",
                 k->name);
    return 0;
}

/* Names and keys stand once each: otherwise which scopes and counts are meant would depend on the
 * order of lines. */
static const char *find_double(const struct table *t, const struct key *k)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->items[i].name, k->name) == 0)
            return "its name stands in an earlier line too";
        if (memcmp(t->items[i].hash, k->hash, HASH_BYTES) == 0)
            return "its key stands in an earlier line too";
    }
    return NULL;
}

static int table_parse(struct str text, const char *path, struct table *t, struct err *err)
{
    size_t n_lines = 1;
    for (size_t i = 0; i < text.len; i++)
        n_lines += text.p[i] == '\n';
    t->items = mem_try_alloc(MIN_OF(n_lines, LIMIT_KEYS), sizeof(*t->items), err);
    if (!t->items)
        return err_wrap(err, "%.300s", path);
    for (unsigned n_line = 1; text.len; n_line++) {
        const char *end = memchr(text.p, '\n', text.len), *why = NULL;
        struct str line = {text.p, end ? (size_t)(end - text.p) : text.len}, rest = line;
        text.len -= line.len + (end != NULL);
        text.p += line.len + (end != NULL);
        struct str first = field_next(&rest);
        if (first.len == 0 && rest.len == 0)
            continue;
        if (first.len && first.p[0] == '#')
            continue;
        if (t->n == LIMIT_KEYS)
            return err_set(err, E_LIMIT, "%.300s, line %u: more than %u keys", path, n_line,
                           LIMIT_KEYS);
        struct key *k = &t->items[t->n];
        if (line_read(k, line, &why) < 0 || (why = find_double(t, k)))
            return err_set(err, E_INVALID, "%.300s, line %u: %s", path, n_line, why);
        t->n++;
    }
    if (t->n == 0)
        return err_set(err, E_INVALID,
                       "%.300s: no key in it; a line is NAME SCOPES KEY, such as: alice "
                       "infer,manage KEY",
                       path);
    return 0;
}

/* A file of ours that nobody else may read, or one that root gives us through a group, as systemd's
 * credentials and Kubernetes' secrets do. */
static int check_mode(int fd, const char *path, struct stat *st, struct err *err)
{
    if (fstat(fd, st) < 0)
        return err_set_sys(err, E_IO, "reading %.300s", path);
    if (!S_ISREG(st->st_mode))
        return err_set(err, E_INVALID, "%.300s is not a regular file", path);
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return err_set(err, E_DENIED,
                       "%.300s belongs to another user, who could change the keys: make it yours "
                       "or root's",
                       path);
    mode_t wrong = st->st_uid == geteuid() ? 0077 : 0027;
    if (st->st_mode & wrong)
        return err_set(err, E_DENIED,
                       "%.300s may be read or changed by others than its owner (mode %04o): run "
                       "chmod 600 on it",
                       path, (unsigned)st->st_mode & 07777);
    if (st->st_size > (off_t)LIMIT_KEYS_FILE_BYTES)
        return err_set(err, E_LIMIT, "%.300s is larger than %u bytes", path, LIMIT_KEYS_FILE_BYTES);
    return 0;
}

static int read_all(int fd, char *text, size_t size, size_t *ret_len)
{
    size_t len = 0;
    while (len < size) {
        ssize_t n = read(fd, text + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return 0;
}

static int table_read(const char *path, struct table *t, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO, "opening %.300s", path);
    int rc = check_mode(fd, path, &st, err);
    char *text = NULL;
    size_t size = rc == 0 ? (size_t)st.st_size : 0, len = 0;
    if (rc == 0)
        text = mem_try_alloc(size + 1, 1, err);
    if (rc == 0 && !text)
        rc = err_wrap(err, "%.300s", path);
    if (rc == 0 && read_all(fd, text, size, &len) < 0)
        rc = err_set_sys(err, E_IO, "reading %.300s", path);
    if (rc == 0)
        rc = table_parse((struct str){text, len}, path, t, err);
    if (text)
        OPENSSL_cleanse(text, size);
    mem_free(text);
    close(fd);
    return rc;
}

/* --- the object --- */

int keys_open(const char *path, struct keys **ret, struct err *err)
{
    struct table t = {0};
    int rc = table_read(path, &t, err);
    if (rc < 0) {
        mem_free(t.items);
        return err_wrap(err, "the keys that clients must present");
    }
    struct keys *k = mem_alloc(sizeof(*k));
    k->path = mem_dup(path, strlen(path));
    pthread_rwlock_init(&k->lock, NULL);
    k->table = t;
    *ret = k;
    return 0;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    pthread_rwlock_destroy(&k->lock);
    mem_free(k->table.items);
    mem_free(k->path);
    mem_free(k);
}

static void counts_move(struct table *to, const struct table *from)
{
    for (size_t i = 0; i < to->n; i++) {
        for (size_t j = 0; j < from->n; j++) {
            if (strcmp(to->items[i].name, from->items[j].name) != 0)
                continue;
            struct key *a = &to->items[i], *b = &from->items[j];
            atomic_store(&a->n_requests, atomic_load(&b->n_requests));
            atomic_store(&a->n_prompt, atomic_load(&b->n_prompt));
            atomic_store(&a->n_generated, atomic_load(&b->n_generated));
            atomic_store(&a->last_used, atomic_load(&b->last_used));
        }
    }
}

int keys_reload(struct keys *k, struct err *err)
{
    struct table t = {0};
    int rc = table_read(k->path, &t, err);
    if (rc == 0) {
        pthread_rwlock_wrlock(&k->lock);
        struct table old = k->table;
        counts_move(&t, &old);
        k->table = t;
        t = old;
        pthread_rwlock_unlock(&k->lock);
    }
    mem_free(t.items);
    return rc;
}

size_t keys_n(const struct keys *k)
{
    struct keys *m = (struct keys *)(uintptr_t)k; /* the lock alone changes */
    pthread_rwlock_rdlock(&m->lock);
    size_t n = m->table.n;
    pthread_rwlock_unlock(&m->lock);
    return n;
}

/* Looks at every entry whatever it has found, and at every byte of each hash. */
bool keys_match(struct keys *k, struct str presented, struct key_match *ret)
{
    unsigned char hash[HASH_BYTES];
    if (hash_of(presented, hash) < 0)
        return false;
    pthread_rwlock_rdlock(&k->lock);
    size_t found = k->table.n;
    for (size_t i = 0; i < k->table.n; i++) {
        size_t same = (size_t)(CRYPTO_memcmp(hash, k->table.items[i].hash, HASH_BYTES) == 0);
        found ^= (found ^ i) & (0 - same);
    }
    if (found < k->table.n) {
        struct key *key = &k->table.items[found];
        memcpy(ret->name, key->name, sizeof(ret->name));
        ret->scopes = key->scopes;
        atomic_fetch_add(&key->n_requests, 1);
        atomic_store(&key->last_used, (int64_t)time(NULL));
    }
    bool is_known = found < k->table.n;
    pthread_rwlock_unlock(&k->lock);
    return is_known;
}

void keys_count(struct keys *k, const char *name, uint64_t n_prompt, uint64_t n_generated)
{
    pthread_rwlock_rdlock(&k->lock);
    for (size_t i = 0; i < k->table.n; i++) {
        struct key *key = &k->table.items[i];
        if (strcmp(key->name, name) != 0)
            continue;
        atomic_fetch_add(&key->n_prompt, n_prompt);
        atomic_fetch_add(&key->n_generated, n_generated);
        break;
    }
    pthread_rwlock_unlock(&k->lock);
}

void keys_put_json(struct keys *k, struct buf *out)
{
    static const char *const scopes[] = {"", "\"infer\"", "\"manage\"", "\"infer\",\"manage\""};
    pthread_rwlock_rdlock(&k->lock);
    buf_append_char(out, '[');
    for (size_t i = 0; i < k->table.n; i++) {
        struct key *key = &k->table.items[i];
        buf_append_str(out, i ? ",{\"name\":" : "{\"name\":");
        json_put_str(out, str_from(key->name));
        buf_printf(out,
                   ",\"scopes\":[%s],\"requests\":%llu,\"prompt_tokens\":%llu,"
                   "\"generated_tokens\":%llu,\"last_used\":%lld}",
                   scopes[key->scopes & 3], (unsigned long long)atomic_load(&key->n_requests),
                   (unsigned long long)atomic_load(&key->n_prompt),
                   (unsigned long long)atomic_load(&key->n_generated),
                   (long long)atomic_load(&key->last_used));
    }
    buf_append_char(out, ']');
    pthread_rwlock_unlock(&k->lock);
}
