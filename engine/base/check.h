/* Assertions of two strengths.
 *
 * require(x)  states an invariant whose violation would lose or invent an order. It stays in every
 *             build: it prints what broke and aborts; a restart recovers from the log.
 * debug_check(x)  states an invariant that is too costly for production; compiled in when
 *             JUMUN_DEBUG_CHECKS is defined (tests, simulator, sanitizers).
 * implies(a, b)   "if a then b", to be used inside the two above.
 *
 * Operating errors (a full disk, a malformed message) are never assertions: they are values. */
#ifndef JUMUN_BASE_CHECK_H
#define JUMUN_BASE_CHECK_H

/* Prints "file:line: function: what" to stderr and aborts. Any thread. Never returns. */
_Noreturn void check_failed(const char *file, int line, const char *function, const char *what);

#define require(x) \
    (__builtin_expect(!!(x), 1) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #x))

#define impossible(why) check_failed(__FILE__, __LINE__, __func__, "impossible: " why)

#define implies(a, b) (!(a) || (b))

#ifdef JUMUN_DEBUG_CHECKS
#define debug_check(x) require(x)
#else
#define debug_check(x) ((void)sizeof(!!(x)))
#endif

#endif
