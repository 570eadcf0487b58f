/* What a node does when its surroundings are wrong; one case per run.
 *
 *   faults JUMUND opened-twice   a second node on the same directory is refused
 *   faults JUMUND other-shards   a directory made for other shards is refused
 *   faults JUMUND corrupt-log    a flipped bit in the log: found, named, never served
 *   faults JUMUND corrupt-state  a flipped bit in the stored orders: found, named, never served
 *   faults JUMUND lost-files     without its journal, then without log and state, it does not start
 *   faults JUMUND full-disk      writes are refused, reads go on, and it recovers (needs root)
 *   faults JUMUND no-memory      the machine has none left: what was acknowledged stays
 *   faults JUMUND full-disk-doubt JUMUN   what waits for room is never told as refused (needs root)
 *
 * Exit codes: 0 as it must be, 1 not, 2 usage, 77 cannot be tried here. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/limits.h"
#include "engine/node/config.h"
#include "tests/process/answers.h"
#include "tests/process/node_process.h"
#include "tests/process/raw_client.h"

enum { EXIT_SKIPPED = 77, ORDERS_MAX = 20000, ROOM_SECONDS_MAX = 60 };

static const char SKU_MARK[] = "sku-with-a-flipped-bit-4711";

struct fault_world {
    struct node_process node;
    const char *directory;
    const char *jumun; /* the command line's program; NULL = not given */
    jumun_client *client;
};

static jumun_client *fault_client(struct node_process *node) {
    char error[256];
    jumun_options options = {.timeout_ms = 10000};
    jumun_client *client = jumun_open(node->endpoint, &options, error, sizeof error);
    if (!client) test_fail(node, "jumun_open: %s", error);
    return client;
}

static int fault_place(jumun_client *client, const jumun_key *key, const char *sku,
                       const void *attributes, uint32_t attributes_bytes, jumun_result *result) {
    jumun_line line = {.sku = sku, .quantity = 1, .unit_price = 100};
    jumun_place place = {.fulfilment = JUMUN_PICKUP, .currency = "EUR", .store = "store-a",
                         .lines = &line, .lines_count = 1, .total = 100,
                         .attributes = attributes, .attributes_bytes = attributes_bytes};
    return jumun_place_order(client, key, &place, NULL, result);
}

static void fault_place_some(struct fault_world *w, jumun_key *keys, uint32_t count,
                             uint32_t marked) {
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = jumun_key_new();
        int code = fault_place(w->client, &keys[i], i == marked ? SKU_MARK : "tea", NULL, 0, NULL);
        if (code != JUMUN_OK) test_fail(&w->node, "place: %s", jumun_result_name(code));
    }
}

/* The code of a get; with JUMUN_OK also whether the order is what was placed. */
static int fault_get(struct fault_world *w, const jumun_key *key, const char *sku) {
    jumun_order *order = NULL;
    int code = jumun_get(w->client, key, NULL, &order, NULL);
    for (int tries = 0; answer_is_passing(code) && tries < 200; tries++) {
        sleep_ms(20);
        code = jumun_get(w->client, key, NULL, &order, NULL);
    }
    if (code == JUMUN_OK && (order->lines_count != 1 || strcmp(order->lines[0].sku, sku) != 0 ||
                             order->total != 100)) {
        test_fail(&w->node, "a damaged order was served");
    }
    jumun_order_free(order);
    return code;
}

/* The node must end by itself with EXIT_DATA, its log naming `what`. */
static void expect_refusal(struct node_process *node, const char *what) {
    int status;
    node_spawn(node);
    if (node_wait_ready(node, &status)) test_fail(node, "the node serves; it must not: %s", what);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_DATA) {
        test_fail(node, "refused with status 0x%x, not exit code %d", (unsigned)status, EXIT_DATA);
    }
    if (!node_log_has(node, what)) test_fail(node, "the log does not say \"%s\"", what);
}

static int case_opened_twice(struct fault_world *w) {
    jumun_key keys[3];
    node_start(&w->node);
    w->client = fault_client(&w->node);
    fault_place_some(w, keys, 2, UINT32_MAX);
    struct node_process second;
    node_init(&second, w->node.program, w->directory, 2);
    snprintf(second.log, sizeof second.log, "%s/second.log", w->directory);
    expect_refusal(&second, w->node.data);
    if (fault_get(w, &keys[0], "tea") != JUMUN_OK) test_fail(&w->node, "the first one suffered");
    fault_place_some(w, keys + 2, 1, UINT32_MAX);
    return 0;
}

static int case_other_shards(struct fault_world *w) {
    jumun_key keys[4];
    w->node.arguments[0] = "--shards";
    w->node.arguments[1] = "2";
    node_start(&w->node);
    w->client = fault_client(&w->node);
    fault_place_some(w, keys, 4, UINT32_MAX);
    node_stop(&w->node);
    w->node.arguments[1] = "3";
    expect_refusal(&w->node, "shards");
    w->node.arguments[0] = NULL; /* as the directory has it */
    node_start(&w->node);
    for (int i = 0; i < 4; i++) {
        if (fault_get(w, &keys[i], "tea") != JUMUN_OK) test_fail(&w->node, "order %d is lost", i);
    }
    return 0;
}

/* -- damage ------------------------------------------------------------------------------------ */

static const char *damage_word;    /* only files whose path holds it */
static uint32_t damage_count;

/* Flips one bit in each copy of the mark: LMDB leaves old pages behind, so all of them. */
static int damage_file(const char *path, const struct stat *status, int flag, struct FTW *walk) {
    if (flag != FTW_F || !strstr(path, damage_word) || !strstr(path, "data.mdb")) return 0;
    FILE *file = fopen(path, "r+");
    uint8_t *bytes = malloc((size_t)status->st_size);
    if (!file || !bytes) test_fail(NULL, "cannot damage %s", path);
    size_t size = fread(bytes, 1, (size_t)status->st_size, file);
    const size_t mark = sizeof SKU_MARK - 1;
    for (uint8_t *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), SKU_MARK, mark));) {
        at[4] ^= 0x10;
        fseek(file, at + 4 - bytes, SEEK_SET);
        fputc(at[4], file);
        damage_count++;
        at += mark;
    }
    free(bytes);
    fclose(file);
    return 0;
}

static void damage(struct fault_world *w, const char *word) {
    damage_word = word;
    damage_count = 0;
    nftw(w->node.data, damage_file, 16, FTW_PHYS);
    if (damage_count == 0) test_fail(&w->node, "no copy of the mark in files named *%s*", word);
    printf("flipped a bit in %u places\n", damage_count);
}

/* After damage: either the node refuses to start and names the fault, or it serves everything but
 * the damaged order. Returns whether it serves. */
static bool expect_named(struct fault_world *w, const jumun_key *keys, uint32_t count,
                         uint32_t marked) {
    int status;
    node_spawn(&w->node);
    bool serves = node_wait_ready(&w->node, &status);
    if (!serves && (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_DATA)) {
        test_fail(&w->node, "ended with status 0x%x, not exit code %d", (unsigned)status,
                  EXIT_DATA);
    }
    if (serves) {
        for (uint32_t i = 0; i < count; i++) {
            int code = fault_get(w, &keys[i], i == marked ? SKU_MARK : "tea");
            if (i == marked ? code == JUMUN_OK || code == JUMUN_ORDER_NOT_FOUND
                            : code != JUMUN_OK) {
                test_fail(&w->node, "order %u: %s", i, jumun_result_name(code));
            }
        }
    }
    if (!node_log_has(&w->node, "shard")) test_fail(&w->node, "the log does not name the shard");
    if (!node_log_has(&w->node, "checksum")) test_fail(&w->node, "the log does not name the fault");
    printf("the node %s\n", serves ? "serves all but the damaged order" : "refused and said why");
    return serves;
}

static int case_corrupt(struct fault_world *w, bool state) {
    enum { COUNT = 40, MARKED = 17 };
    jumun_key keys[COUNT];
    w->node.arguments[0] = "--checkpoint-age-ms";
    w->node.arguments[1] = state ? "50" : "3600000"; /* the log alone must bring the orders back */
    node_start(&w->node);
    w->client = fault_client(&w->node);
    fault_place_some(w, keys, COUNT, MARKED);
    if (state) node_stop(&w->node);
    else node_kill(&w->node);
    damage(w, state ? "state" : "log-");
    expect_named(w, keys, COUNT, MARKED);
    return 0;
}

/* -- files that are gone ----------------------------------------------------------------------- */

/* Moves shard-0/NAME out of the directory, or back into it. */
static void put_away(struct fault_world *w, const char *name, bool back) {
    char there[1024], away[1024];
    snprintf(there, sizeof there, "%s/shard-0/%s", w->node.data, name);
    snprintf(away, sizeof away, "%s/%s", w->directory, name);
    if (rename(back ? away : there, back ? there : away) != 0)
        test_fail(&w->node, "%s: %s", name, strerror(errno));
}

/* The next start has a journal. */
static void await_journal(struct fault_world *w) {
    char path[1024];
    struct stat st;
    snprintf(path, sizeof path, "%s/shard-0/journal", w->node.data);
    for (int i = 0; stat(path, &st) != 0; i++) {
        if (i == 6000) test_fail(&w->node, "no journal was made");
        sleep_ms(10);
    }
}

static int case_lost_files(struct fault_world *w) {
    enum { COUNT = 10 };
    static const char *const parts[] = {"journal", "log-00000000000000000001", "state"};
    jumun_key keys[COUNT];
    w->node.arguments[0] = "--shards";
    w->node.arguments[1] = "1";
    node_start(&w->node);
    await_journal(w);
    node_stop(&w->node);
    node_start(&w->node);
    w->client = fault_client(&w->node);
    fault_place_some(w, keys, COUNT, UINT32_MAX);
    node_kill(&w->node);
    put_away(w, parts[0], false);
    expect_refusal(&w->node, "shard-0/journal is missing");
    for (unsigned i = 1; i < 3; i++) put_away(w, parts[i], false);
    expect_refusal(&w->node, "no log is left");
    for (unsigned i = 0; i < 3; i++) put_away(w, parts[i], true);
    node_start(&w->node);
    for (int i = 0; i < COUNT; i++) {
        if (fault_get(w, &keys[i], "tea") != JUMUN_OK) test_fail(&w->node, "order %d is lost", i);
    }
    return 0;
}

/* -- full disk --------------------------------------------------------------------------------- */

static void ballast_write(const char *path, size_t bytes) {
    static const char block[65536];
    FILE *file = fopen(path, "w");
    for (size_t n = 0; file && n < bytes; n += sizeof block) fwrite(block, 1, sizeof block, file);
    if (!file || fclose(file) != 0) test_fail(NULL, "ballast: %s", strerror(errno));
}

/* Places orders until the node says that its disk is full. Returns how many it acknowledged. */
static uint32_t fill(struct fault_world *w, jumun_key *keys) {
    static uint8_t attributes[4000];
    attributes[0] = 0xc5; /* msgpack: bin 16 */
    attributes[1] = (uint8_t)((sizeof attributes - 3) >> 8);
    attributes[2] = (uint8_t)((sizeof attributes - 3) & 0xff);
    for (uint32_t done = 0; done < ORDERS_MAX;) {
        jumun_result result;
        keys[done] = jumun_key_new();
        int code =
            fault_place(w->client, &keys[done], "tea", attributes, sizeof attributes, &result);
        if (code == JUMUN_OK) done++;
        else if (code == RESULT_DISK_FULL) return done;
        if (code != JUMUN_OK && !answer_is_passing(code)) {
            test_fail(&w->node, "place: %s", jumun_result_name(code));
        }
    }
    test_fail(&w->node, "%d large orders, and the disk is not full", ORDERS_MAX);
}

static void expect_all(struct fault_world *w, const jumun_key *keys, uint32_t count,
                       uint32_t step) {
    for (uint32_t i = 0; i < count; i += step) {
        int code = fault_get(w, &keys[i], "tea");
        if (code != JUMUN_OK) test_fail(&w->node, "order %u: %s", i, jumun_result_name(code));
    }
}

static void expect_room(struct fault_world *w) {
    int64_t until = monotonic_ms() + ROOM_SECONDS_MAX * 1000;
    int code;
    do {
        jumun_key key = jumun_key_new();
        code = fault_place(w->client, &key, "tea", NULL, 0, NULL);
        if (code == JUMUN_OK) return;
        sleep_ms(50);
    } while (monotonic_ms() < until);
    test_fail(&w->node, "there is room, and place still says %s", jumun_result_name(code));
}

/* Takes all room that is left, to the last block. */
static void ballast_fill(const char *path) {
    static const char block[4096];
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0) test_fail(NULL, "ballast: %s", strerror(errno));
    while (write(fd, block, sizeof block) > 0) continue;
    if (errno != ENOSPC) test_fail(NULL, "ballast: %s", strerror(errno));
    close(fd);
}

/* A start without any room answers reads; writes are refused, and taken once there is room. Twice:
 * what the first one left in the journal is there. */
static void start_without_room(struct fault_world *w, const char *ballast, const jumun_key *keys,
                               uint32_t count) {
    for (int times = 0; times < 2; times++) {
        node_start(&w->node);
        expect_all(w, keys, count, 1);
        jumun_key key = jumun_key_new();
        int code = fault_place(w->client, &key, "tea", NULL, 0, NULL);
        if (code == JUMUN_OK) test_fail(&w->node, "a place on a full disk is taken");
        expect_all(w, keys, count, 1);
        node_kill(&w->node);
    }
    node_start(&w->node);
    if (unlink(ballast) != 0) test_fail(&w->node, "unlink: %s", strerror(errno));
}

/* Leaves FIT_BYTES before the node says that its disk is full, once it has made its journals. */
static void ballast_around(struct fault_world *w, const char *path) {
    enum { FIT_BYTES = 24 << 20 };
    int64_t until = monotonic_ms() + ROOM_SECONDS_MAX * 1000;
    for (unsigned shard = 0; shard < 2; shard++) {
        char journal[600];
        snprintf(journal, sizeof journal, "%s/shard-%u/journal", w->node.data, shard);
        while (access(journal, F_OK) != 0) {
            if (monotonic_ms() > until) test_fail(&w->node, "%s is not made", journal);
            sleep_ms(10);
        }
    }
    struct statvfs fs;
    if (statvfs(w->node.data, &fs) != 0) test_fail(NULL, "statvfs: %s", strerror(errno));
    ballast_write(path, fs.f_bavail * fs.f_frsize - STORAGE_ROOM_FLOOR_BYTES - FIT_BYTES);
}

static int case_full_disk(struct fault_world *w) {
    static jumun_key keys[ORDERS_MAX];
    char ballast[600], rest[600];
    if (mkdir(w->node.data, 0700) != 0) test_fail(NULL, "mkdir: %s", strerror(errno));
    if (mount("jumun-test", w->node.data, "tmpfs", 0, "size=256m") != 0) {
        printf("SKIPPED: cannot mount a small file system: %s\n", strerror(errno));
        return EXIT_SKIPPED;
    }
    snprintf(ballast, sizeof ballast, "%s/ballast", w->node.data);
    snprintf(rest, sizeof rest, "%s/rest", w->node.data);
    w->node.arguments[0] = "--shards";
    w->node.arguments[1] = "2";
    node_start(&w->node);
    ballast_around(w, ballast);
    w->client = fault_client(&w->node);
    uint32_t count = fill(w, keys);
    printf("full after %u orders\n", count);
    if (count == 0) test_fail(&w->node, "not one order fitted");
    ballast_fill(rest);
    expect_all(w, keys, count, 1 + count / 50); /* reads go on */
    if (unlink(rest) != 0 || unlink(ballast) != 0) {
        test_fail(&w->node, "unlink: %s", strerror(errno));
    }
    expect_room(w);
    ballast_fill(rest);
    node_kill(&w->node);
    start_without_room(w, rest, keys, count);
    expect_all(w, keys, count, 1);
    expect_room(w);
    return 0;
}

/* From now on it gets no more than this much address space on top of what it has. */
static void memory_bound(const struct node_process *node, uint64_t bytes) {
    char path[64], line[128];
    unsigned long long kilobytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)node->pid);
    FILE *file = fopen(path, "r");
    while (file && kilobytes == 0 && fgets(line, sizeof line, file))
        (void)sscanf(line, "VmSize: %llu", &kilobytes);
    if (file) fclose(file);
    struct rlimit limit = {.rlim_cur = kilobytes * 1024 + bytes};
    limit.rlim_max = limit.rlim_cur;
    if (kilobytes == 0 || prlimit(node->pid, RLIMIT_AS, &limit, NULL) != 0)
        test_fail(NULL, "no bound of memory: %s", strerror(errno));
}

/* Where malloc() fails in the middle of a turn the process ends, at an invariant that it names;
 * where that can be an answer, it is. Nothing that was acknowledged depends on which comes first.
 */
static int case_no_memory(struct fault_world *w) {
    enum { MORE_BYTES = 8 << 20, REFUSALS_MAX = 5 };
    static jumun_key keys[ORDERS_MAX];
    static uint8_t attributes[4000] = {0xc5, (sizeof attributes - 3) >> 8,
                                       (sizeof attributes - 3) & 0xff}; /* msgpack: bin 16 */
    uint32_t count = 0, refusals = 0;
    int status = 0, code = JUMUN_OK;
    w->node.arguments[0] = "--shards";
    w->node.arguments[1] = "1";
    setenv("MALLOC_ARENA_MAX", "1", 1); /* glibc reserves 64 MiB for each more */
    node_start(&w->node);
    memory_bound(&w->node, MORE_BYTES);
    char error[256];
    jumun_options options = {.timeout_ms = 2000};
    w->client = jumun_open(w->node.endpoint, &options, error, sizeof error);
    if (!w->client) test_fail(&w->node, "jumun_open: %s", error);
    pid_t ended = 0;
    while (ended == 0 && refusals < REFUSALS_MAX && count < ORDERS_MAX) {
        keys[count] = jumun_key_new();
        code = fault_place(w->client, &keys[count], "tea", attributes, sizeof attributes, NULL);
        if (code == JUMUN_OK) count++;
        else refusals++;
        ended = waitpid(w->node.pid, &status, WNOHANG);
    }
    if (count == ORDERS_MAX) test_fail(&w->node, "%u large orders, and there is memory", count);
    printf("no memory after %u orders: it %s, %s\n", count, ended ? "ended" : "goes on",
           jumun_result_name(code));
    if (!ended) node_kill(&w->node);
    else if (!WIFSIGNALED(status) || !node_log_has(&w->node, "invariant broken: "))
        test_fail(NULL, "it ended with 0x%x and names no invariant", (unsigned)status);
    w->node.pid = 0;
    jumun_close(w->client);
    node_start(&w->node);
    w->client = fault_client(&w->node);
    expect_all(w, keys, count, 1);
    expect_room(w);
    return 0;
}

/* -- a full disk, and what waits for room ------------------------------------------------------ */

/* Runs the command line's program for one order; returns its exit code, and in `told` what it has
 * said on stderr. */
static int run_jumun(struct fault_world *w, const char *arguments, const char *key, char *told,
                     size_t told_bytes) {
    char command[2048];
    snprintf(command, sizeof command, "JUMUN_ENDPOINT=%s %s %s%s 2>&1 >/dev/null",
             w->node.endpoint, w->jumun, arguments, key);
    FILE *out = popen(command, "r");
    if (!out) test_fail(&w->node, "popen: %s", strerror(errno));
    size_t bytes = fread(told, 1, told_bytes - 1, out);
    told[bytes] = 0;
    int status = pclose(out);
    printf("%s%s: exit code %d: %s", arguments, key, WEXITSTATUS(status), told);
    return WEXITSTATUS(status);
}

static void raw_begin_place(const struct fault_world *w, struct raw_client *raw,
                            struct raw_request *request, const struct raw_id *key,
                            const struct raw_id *id) {
    raw_open(raw, w->node.endpoint);
    raw_begin(request, 0, 1);
    raw_place(request, key, id, "store-a", 1);
}

/* The code of an answer that comes soon; -1 = none does. */
static int raw_place_soon(struct fault_world *w, const struct raw_id *key,
                          const struct raw_id *id) {
    struct raw_client raw;
    struct raw_request request;
    struct raw_reply reply;
    int code = -1;
    raw_begin_place(w, &raw, &request, key, id);
    if (raw_ask_for(&raw, &request, 1500, &reply) == 0) {
        code = (int)raw_result(&reply, 0).code;
        raw_reply_free(&reply);
    }
    raw_close(&raw);
    return code;
}

/* No answer, for as long as there is no room; any answer is a lie by then. */
static void expect_no_answer(struct fault_world *w, const struct raw_id *key,
                             const struct raw_id *id) {
    int code = raw_place_soon(w, key, id);
    if (code >= 0)
        test_fail(&w->node, "a place that waits for room is answered with code %d", code);
}

/* A place that was decided before anybody knew that the disk is full. Where the node has written
 * something of its own between, it knows, and refuses: once more. */
static void place_into_full_disk(struct fault_world *w, const char *ballast, struct raw_id *key,
                                 struct raw_id *id) {
    enum { TRIES = 20 };
    for (int i = 0; i < TRIES; i++) {
        *key = raw_key();
        *id = raw_id();
        ballast_fill(ballast);
        int code = raw_place_soon(w, key, id);
        if (code < 0) return;
        if (code != RESULT_DISK_FULL) test_fail(&w->node, "a full disk: code %d", code);
        if (unlink(ballast) != 0) test_fail(&w->node, "unlink: %s", strerror(errno));
        expect_room(w);
        sleep_ms(100 * i);
    }
    test_fail(&w->node, "it knows each time that the disk is full");
}

static uint64_t raw_place_code(struct fault_world *w, const struct raw_id *key,
                               const struct raw_id *id) {
    struct raw_client raw;
    struct raw_request request;
    struct raw_reply reply;
    raw_begin_place(w, &raw, &request, key, id);
    raw_ask(&raw, &request, &reply);
    uint64_t code = raw_result(&reply, 0).code;
    raw_reply_free(&reply);
    raw_close(&raw);
    return code;
}

static void ballast_until_no_room(struct fault_world *w, const char *path) {
    jumun_key first;
    fault_place_some(w, &first, 1, UINT32_MAX);
    await_journal(w);
    ballast_fill(path);
}

/* What no one has answered may be done later: then nobody may have been told that it was not. */
static int case_full_disk_doubt(struct fault_world *w) {
    char ballast[600], told[2048], key_text[JUMUN_KEY_TEXT_BYTES];
    jumun_key key = jumun_key_new();
    if (!w->jumun) return 2;
    if (mkdir(w->node.data, 0700) != 0) test_fail(NULL, "mkdir: %s", strerror(errno));
    if (mount("jumun-test", w->node.data, "tmpfs", 0, "size=200m") != 0) {
        printf("SKIPPED: cannot mount a small file system: %s\n", strerror(errno));
        return EXIT_SKIPPED;
    }
    snprintf(ballast, sizeof ballast, "%s/ballast", w->node.data);
    w->node.arguments[0] = "--shards";
    w->node.arguments[1] = "1";
    w->node.arguments[2] = "--no-pin";
    node_start(&w->node);
    w->client = fault_client(&w->node);
    ballast_until_no_room(w, ballast);
    jumun_key_format(&key, key_text);
    int code = run_jumun(w, "place --store store-a --line tea:1:100 --currency EUR --fulfilment "
                            "pickup --key ", key_text, told, sizeof told);
    if (strstr(told, "outcome_unknown") == NULL || strstr(told, "refused") != NULL)
        test_fail(&w->node, "exit code %d; it must say that the outcome is unknown", code);
    struct raw_id raw_order, id, other = raw_key(), other_id = raw_id();
    if (raw_place_code(w, &other, &other_id) != RESULT_DISK_FULL)
        test_fail(&w->node, "another order is not refused with disk_full");
    run_jumun(w, "get ", key_text, told, sizeof told);
    if (strstr(told, "disk_full") == NULL || strstr(told, "--id") != NULL)
        test_fail(&w->node, "a read of what waits for room must be refused at once");
    if (unlink(ballast) != 0) test_fail(&w->node, "unlink: %s", strerror(errno));
    expect_room(w);
    if (run_jumun(w, "get ", key_text, told, sizeof told) != 0)
        test_fail(&w->node, "what waited for room is not there");
    place_into_full_disk(w, ballast, &raw_order, &id);
    expect_no_answer(w, &raw_order, &id);
    if (unlink(ballast) != 0) test_fail(&w->node, "unlink: %s", strerror(errno));
    if (raw_place_code(w, &raw_order, &id) != RESULT_OK)
        test_fail(&w->node, "with room the same id does not get the first answer");
    return 0;
}

static int case_run(struct fault_world *w, const char *name) {
    if (strcmp(name, "opened-twice") == 0) return case_opened_twice(w);
    if (strcmp(name, "other-shards") == 0) return case_other_shards(w);
    if (strcmp(name, "corrupt-log") == 0) return case_corrupt(w, false);
    if (strcmp(name, "corrupt-state") == 0) return case_corrupt(w, true);
    if (strcmp(name, "lost-files") == 0) return case_lost_files(w);
    if (strcmp(name, "full-disk") == 0) return case_full_disk(w);
    if (strcmp(name, "no-memory") == 0) return case_no_memory(w);
    if (strcmp(name, "full-disk-doubt") == 0) return case_full_disk_doubt(w);
    fprintf(stderr, "unknown case: %s\n", name);
    return 2;
}

int main(int argc, char **argv) {
    struct fault_world w = {0};
    if (argc != 3 && argc != 4) {
        fputs("usage: faults JUMUND CASE [JUMUN]\n"
              "cases: opened-twice other-shards corrupt-log corrupt-state lost-files full-disk "
              "no-memory full-disk-doubt\n",
              stderr);
        return 2;
    }
    if (argc == 4) w.jumun = argv[3];
    w.directory = directory_make();
    node_init(&w.node, argv[1], w.directory, 8);
    int code = case_run(&w, argv[2]);
    if (w.client) jumun_close(w.client);
    if (w.node.pid) node_stop(&w.node);
    umount2(w.node.data, MNT_DETACH);
    directory_remove(w.directory);
    if (code == 0) printf("%s: as it must be\n", argv[2]);
    return code;
}
