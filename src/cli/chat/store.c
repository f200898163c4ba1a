/* SPDX-License-Identifier: Apache-2.0 */
/* Implements store.h.  The history holds one JSON string a line, so that pasted newlines stay
 * within theirs; conversations append to it at once, and whoever finds it too long keeps its end.
 */
#include "cli/chat/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/chat/params.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/sys/file.h"

#define HISTORY_LINES     1000u
#define HISTORY_MAX_BYTES (8u << 20)
#define FORMAT            "berth conversation"

static int history_path(struct buf *out)
{
    struct err err = ERR_INIT;
    buf_init(out, LIMIT_PATH_BYTES - 1);
    if (config_state_dir(out, &err) < 0)
        return -1;
    mkdir(buf_str(out), 0700); /* its parents are there, or there is no history */
    buf_append_str(out, "/chat_history");
    return out->failed ? -1 : 0;
}

/* Writes all of it to a file beside path and puts that in its place. */
static int replace_file(const char *path, struct str text, struct err *err)
{
    struct buf tmp;
    buf_init(&tmp, LIMIT_PATH_BYTES);
    buf_printf(&tmp, "%s.%d.tmp", path, (int)getpid());
    int rc = buf_status(&tmp, "the path", err);
    int fd = rc == 0 ? open(buf_str(&tmp), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (rc == 0 && fd < 0)
        rc = err_set_sys(err, E_IO, "writing %s", path);
    for (size_t at = 0; rc == 0 && at < text.len;) {
        ssize_t n = write(fd, text.p + at, text.len - at);
        if (n < 0 && errno != EINTR)
            rc = err_set_sys(err, E_IO, "writing %s", path);
        at += n > 0 ? (size_t)n : 0;
    }
    if (rc == 0 && (fsync(fd) < 0 || rename(buf_str(&tmp), path) < 0))
        rc = err_set_sys(err, E_IO, "writing %s", path);
    if (fd >= 0) {
        close(fd);
        if (rc < 0)
            unlink(buf_str(&tmp));
    }
    buf_release(&tmp);
    return rc;
}

/* The last HISTORY_LINES lines. */
static struct str tail_of(const struct buf *all)
{
    size_t from = all->len, n_lines = 0;
    while (from > 0) {
        if (all->data[from - 1] == '\n' && n_lines++ == HISTORY_LINES)
            break;
        from--;
    }
    return (struct str){buf_str(all) + from, all->len - from};
}

void history_load(struct line_reader *r)
{
    struct buf path, all;
    struct err err = ERR_INIT;
    if (history_path(&path) < 0) {
        buf_release(&path);
        return;
    }
    if (file_read_regular(buf_str(&path), HISTORY_MAX_BYTES, &all, &err) < 0) {
        if (err.code == E_LIMIT)
            unlink(buf_str(&path)); /* no such thing grows by typing */
        all.len = 0;
    }
    struct str tail = tail_of(&all);
    if (tail.len < all.len)
        (void)!replace_file(buf_str(&path), tail, &err);
    while (tail.len) {
        const char *nl = memchr(tail.p, '\n', tail.len);
        size_t n = nl ? (size_t)(nl - tail.p) : tail.len;
        json_t *line = json_loadb(tail.p, n, JSON_DECODE_ANY, NULL);
        if (json_is_string(line))
            line_remember(r, json_string_value(line));
        json_decref(line);
        n += nl != NULL;
        tail.p += n;
        tail.len -= n;
    }
    buf_release(&all);
    buf_release(&path);
}

void history_add(const char *text)
{
    struct buf path, line;
    buf_init(&line, HISTORY_MAX_BYTES / 8);
    json_put_str(&line, str_from(text));
    buf_append_char(&line, '\n');
    int fd = -1;
    if (history_path(&path) == 0 && !line.failed)
        fd = open(buf_str(&path),
                  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd >= 0) {
        ssize_t done = write(fd, buf_str(&line), line.len);
        (void)done;
        close(fd);
    }
    buf_release(&line);
    buf_release(&path);
}

/* The JSON of a saved conversation (a new reference), or NULL and err. */
static json_t *read_saved(const char *path, struct err *err)
{
    struct buf text;
    json_t *j = NULL;
    if (file_read_regular(path, LIMIT_ANSWER_BYTES, &text, err) == 0 &&
        json_parse((struct str){buf_str(&text), text.len}, &j, err) < 0)
        err_wrap(err, "%s", path);
    buf_release(&text);
    const char *format = json_string_value(json_object_get(j, "format"));
    if (j && (!format || strcmp(format, FORMAT) != 0)) {
        err_set(err, E_FORMAT, "%s is no conversation that /save wrote", path);
        json_decref(j);
        j = NULL;
    }
    return j;
}

int conversation_save(const struct chat *c, const char *path, struct err *err)
{
    struct err why = ERR_INIT;
    json_t *old = access(path, F_OK) == 0 ? read_saved(path, &why) : NULL;
    if (!old && why.code)
        return err_set(err, E_EXISTS, "%s is there and holds something else; give another name",
                       path);
    json_decref(old);
    json_t *j = json_pack("{s:s, s:i, s:s, s:s?, s:b, s:s?, s:O, s:O}", "format", FORMAT, "version",
                          1, "model", c->model, "digest", c->digest, "chat", c->is_chat, "system",
                          c->system, "parameters", c->params, "messages", c->messages);
    if (!j)
        return err_set(err, E_NOMEM, "no memory for the conversation");
    struct buf text;
    buf_init(&text, 2 * (size_t)LIMIT_ANSWER_BYTES);
    char *dumped = json_dumps(j, JSON_INDENT(2)); /* people read it */
    buf_append_str(&text, dumped ? dumped : "");
    buf_append_char(&text, '\n');
    mem_free(dumped); /* of the same allocator */
    int rc = buf_status(&text, "the conversation", err);
    if (rc == 0)
        rc = replace_file(path, (struct str){buf_str(&text), text.len}, err);
    buf_release(&text);
    json_decref(j);
    return rc;
}

static int check_messages(const json_t *messages, const char *path, struct err *err)
{
    size_t i;
    const json_t *m;
    if (!json_is_array(messages))
        return err_set(err, E_FORMAT, "%s has no messages", path);
    json_array_foreach((json_t *)messages, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        bool is_known = role && (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0);
        if (!is_known || !json_is_string(json_object_get(m, "content")))
            return err_set(err, E_FORMAT,
                           "%s: message %zu is not a user's or an assistant's with a content", path,
                           i + 1);
    }
    return 0;
}

/* What differs between the model that answered then and the one that will. */
static void note_differences(const struct chat *c, const json_t *j, struct buf *notes)
{
    const char *model = json_string_value(json_object_get(j, "model"));
    const char *digest = json_string_value(json_object_get(j, "digest"));
    bool was_chat = json_is_true(json_object_get(j, "chat"));
    if (model && strcmp(model, c->model) != 0)
        buf_printf(notes, "It was held with %s; this is %s. /load %s changes to that model.\n",
                   model, c->model, model);
    else if (digest && c->digest && strcmp(digest, c->digest) != 0)
        buf_printf(notes, "%s has changed since: it was %s, and is %s.\n", c->model, digest,
                   c->digest);
    if (was_chat != c->is_chat)
        buf_printf(notes, "It was %s; this model is asked to %s.\n",
                   was_chat ? "a chat" : "a series of completions",
                   c->is_chat ? "chat" : "complete texts");
}

int conversation_load(struct chat *c, const char *path, struct buf *notes, struct err *err)
{
    json_t *j = read_saved(path, err);
    if (!j)
        return -err->code;
    const json_t *messages = json_object_get(j, "messages");
    const json_t *given = json_object_get(j, "parameters");
    const char *system = json_string_value(json_object_get(j, "system"));
    json_t *params = json_object();
    int rc = check_messages(messages, path, err);
    if (rc == 0 && params_take(params, given, err) < 0)
        rc = err_wrap(err, "%s", path);
    if (rc == 0) {
        note_differences(c, j, notes);
        if (!json_equal(params, c->params))
            buf_append_str(notes, "The parameters are now those it was saved with "
                                  "(/show parameters).\n");
        json_decref(c->params);
        c->params = json_incref(params);
        json_decref(c->messages);
        c->messages = json_deep_copy(messages);
        mem_free(c->system);
        c->system = system ? mem_dup(system, strlen(system)) : NULL;
    }
    json_decref(params);
    json_decref(j);
    return rc;
}
