/* SPDX-License-Identifier: Apache-2.0 */
/* The rest of client.h: answers that are JSON lines, bodies that are made while they are sent, and
 * names in addresses. */
#include <ctype.h>
#include <string.h>

#include "cli/client/impl.h"

#define STRAY_MAX_BYTES 300u /* of an answer that is no lines, in its sentence */

struct lines {
    client_line_fn fn;
    void *ctx;
    struct buf line;  /* what has come of one, or the body of an error answer */
    struct buf stray; /* lines that are no JSON */
    unsigned n_good;
    struct err error; /* code set: an error line, or one that is too long */
};

static bool take_line(struct lines *l)
{
    bool go_on = true;
    json_t *j = json_loadb(buf_str(&l->line), l->line.len, 0, NULL);
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!json_is_object(j)) {
        if (l->line.len)
            buf_printf(&l->stray, "%s ", buf_str(&l->line)); /* what does not fit is lost */
    } else if (type && strcmp(type, "error") == 0) {
        static const char lead[] = "Error: ";
        const char *said = json_string_value(json_object_get(j, "message"));
        if (said && strncmp(said, lead, sizeof(lead) - 1) == 0)
            said += sizeof(lead) - 1;
        err_set(&l->error, E_GONE, "%s", said ? said : "it ended with an error");
        l->n_good++;
        l->fn(l->ctx, j);
        go_on = false;
    } else {
        l->n_good++;
        go_on = l->fn(l->ctx, j);
    }
    json_decref(j);
    buf_clear(&l->line);
    return go_on;
}

static bool on_piece(void *ctx, int status, const char *p, size_t n)
{
    struct lines *l = ctx;
    if (status < 200 || status > 299)
        return buf_append(&l->line, p, n) == 0;
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t take = end ? (size_t)(end - p) : n;
        if (buf_append(&l->line, p, take) < 0) {
            err_set(&l->error, E_FORMAT, "the daemon sent a line of more than %u bytes",
                    CLIENT_EVENT_MAX_BYTES);
            return false;
        }
        if (end && !take_line(l))
            return false;
        take += end != NULL;
        p += take;
        n -= take;
    }
    return true;
}

/* What became of the request, given what its transport said. */
static int conclude(struct lines *l, const struct client *c, const char *path, int rc, int status,
                    const struct err *why, struct err *err)
{
    if (rc == 0 && status >= 200 && status <= 299 && l->line.len)
        take_line(l);
    if (l->error.code) {
        *err = l->error;
        return -l->error.code;
    }
    /* A refusal may come before all of an upload was sent. */
    if (status && (status < 200 || status > 299))
        return client_refusal(c, path, status, &l->line, err);
    if (rc < 0) {
        *err = *why;
        return rc;
    }
    if (!l->n_good && l->stray.len)
        return err_set(err, E_NET, "%s%s is no berth daemon; it answered: %.*s", client_place(c),
                       path, STRAY_MAX_BYTES, buf_str(&l->stray));
    return 0;
}

int client_lines(const struct client *c, const char *path, const json_t *body,
                 const struct client_upload *upload, client_line_fn fn, void *ctx, struct err *err)
{
    struct lines l = {.fn = fn, .ctx = ctx, .error = ERR_INIT};
    struct err why = ERR_INIT;
    struct call k;
    char type[96];
    int status = 0;
    buf_init(&l.line, CLIENT_EVENT_MAX_BYTES);
    buf_init(&l.stray, STRAY_MAX_BYTES + 1);
    int rc = client_call_init(&k, c, "POST", path, body, &why);
    if (rc == 0) {
        unsigned n = 0;
        while (k.headers[n])
            n++;
        k.headers[n++] = "Accept: application/json";
        if (upload) {
            snprintf(type, sizeof(type), "Content-Type: %s", upload->type);
            k.headers[n++] = type;
            k.rq.on_read = upload->read;
            k.rq.read_ctx = upload->ctx;
            k.rq.read_bytes = upload->bytes;
        }
        k.rq.on_data = on_piece;
        k.rq.ctx = &l;
        rc = httpc_do(&k.rq, &status, &why);
    }
    rc = conclude(&l, c, path, rc, status, &why, err);
    buf_release(&l.line);
    buf_release(&l.stray);
    client_call_release(&k);
    return rc;
}

void client_escape(struct buf *out, const char *text, bool keeps_slash)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~:@", c) || (c == '/' && keeps_slash))
            buf_append_char(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}
