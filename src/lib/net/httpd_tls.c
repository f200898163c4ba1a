/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.2 and 1.3 under a connection, by OpenSSL 3, never blocking.  OpenSSL is not touched, nor
 * does it cost memory, unless a certificate is configured. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

/* What one record holds. */
#define RECORD_BYTES 16384

static int fail(struct err *err, const char *what, const char *path)
{
    unsigned long code = ERR_get_error();
    const char *why =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return err_set(err, E_INVALID, "%s %s: %s", what, path, why ? why : "no reason given");
}

/* Nobody is there to be asked for a key's password. */
static int no_password(char *out, int max, int writing, void *ctx)
{
    (void)out;
    (void)max;
    (void)writing;
    (void)ctx;
    return -1;
}

/* HTTP/1.1, or nothing when the client does not say; RFC 7301. */
static int choose_protocol(SSL *tls, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *ctx)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    (void)tls;
    (void)ctx;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int tls_load(struct httpd *h, struct err *err)
{
    if (!h->tls_cert || !h->tls_key)
        return err_set(err, E_INVALID, "TLS needs both a certificate and its key");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    int rc = 0;
    if (!ctx)
        return fail(err, "OpenSSL does not start for", h->tls_cert);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets need no memory here */
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(ctx, h->tls_cert) != 1)
        rc = fail(err, "cannot use the TLS certificate", h->tls_cert);
    else if (SSL_CTX_use_PrivateKey_file(ctx, h->tls_key, SSL_FILETYPE_PEM) != 1)
        rc = fail(err, "cannot use the TLS key", h->tls_key);
    else if (SSL_CTX_check_private_key(ctx) != 1)
        rc = fail(err, "the TLS key does not belong to the certificate", h->tls_cert);
    if (rc < 0) {
        SSL_CTX_free(ctx);
        return rc;
    }
    pthread_mutex_lock(&h->tls_lock);
    SSL_CTX *old = h->tls;
    h->tls = ctx;
    pthread_mutex_unlock(&h->tls_lock);
    SSL_CTX_free(old); /* connections made with it keep it alive */
    return 0;
}

int httpd_tls_reload(struct httpd *h, struct err *err)
{
    return h->has_tls ? tls_load(h, err)
                      : err_set(err, E_INVALID, "this server was started without TLS");
}

void tls_unload(struct httpd *h)
{
    if (h->tls)
        SSL_CTX_free(h->tls);
    h->tls = NULL;
}

bool tls_open(struct conn *c)
{
    struct httpd *h = c->t->h;
    pthread_mutex_lock(&h->tls_lock);
    c->tls = SSL_new(h->tls);
    pthread_mutex_unlock(&h->tls_lock);
    if (c->tls && SSL_set_fd(c->tls, c->fd) == 1) {
        SSL_set_accept_state(c->tls);
        return true;
    }
    ERR_clear_error();
    return false;
}

void tls_close(struct conn *c, bool polite)
{
    if (!c->tls)
        return;
    if (polite && !c->handshaking)
        SSL_shutdown(c->tls);
    ERR_clear_error();
    SSL_free(c->tls);
    c->tls = NULL;
}

/* What a call that did not succeed means. */
static int verdict(struct conn *c, int rc)
{
    switch (SSL_get_error(c->tls, rc)) {
    case SSL_ERROR_WANT_READ: c->readable = false; return -1;
    case SSL_ERROR_WANT_WRITE: conn_wait_out(c); return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: ERR_clear_error(); return -2;
    }
}

/* 1: the client begins with a letter, as HTTP does and no handshake can; 0: with something else;
 * -1: it has said nothing yet. */
static int begins_plainly(struct conn *c)
{
    char first = '\0';
    ssize_t n = recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->readable = false;
        return -1;
    }
    return n == 1 && first >= 'A' && first <= 'Z';
}

int tls_handshake(struct conn *c)
{
    if (c->blocked)
        return -1;
    if (SSL_in_before(c->tls)) {
        int plain = begins_plainly(c);
        if (plain != 0)
            return plain == 1 ? 0 : -1;
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(c->tls);
    if (rc == 1)
        return 1;
    rc = verdict(c, rc);
    return rc == 0 ? -2 : rc;
}

ssize_t tls_read(struct conn *c, void *p, size_t n)
{
    size_t got = 0;
    ERR_clear_error();
    int rc = SSL_read_ex(c->tls, p, n, &got);
    return rc == 1 ? (ssize_t)got : verdict(c, rc);
}

ssize_t tls_write(struct conn *c, const struct str *pieces, size_t n_pieces)
{
    char *record = c->t->scratch;
    size_t len = 0, sent = 0;
    _Static_assert(HTTPD_SCRATCH >= RECORD_BYTES, "a record is gathered in the scratch buffer");
    for (size_t i = 0; i < n_pieces; i++) {
        size_t n = MIN_OF(pieces[i].len, RECORD_BYTES - len);
        memcpy(record + len, pieces[i].p, n);
        len += n;
    }
    ERR_clear_error();
    int rc = SSL_write_ex(c->tls, record, len, &sent);
    if (rc == 1)
        return (ssize_t)sent;
    /* Wanting to read (a key update) waits for the client like wanting to write does. */
    rc = verdict(c, rc);
    return rc == 0 ? -2 : rc;
}
