"""Sign up, in and out; the own profile; access keys."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.contrib.auth import SESSION_KEY, authenticate
from django.contrib.auth.models import update_last_login
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import mixins
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts import clerk, identities, keys, profile, sessions, tokens
from accounts.api.serializers import (
    AccessKeySerializer,
    ClerkSerializer,
    LoginSerializer,
    ProfileSerializer,
    RefreshSerializer,
    RegistrationSerializer,
    UserSerializer,
)
from accounts.api.shapes import SIGNED_IN, TOKENS, AccountSerializer, NewAccessKeySerializer
from accounts.errors import BadCredentials, NoSession
from accounts.models import AccessKey, TokenFamily, User
from accounts.registration import register
from asynccoder.api.limits import client_address, limit_authentication
from asynccoder.api.permissions import InScope, NotByAccessKey
from asynccoder.api.shapes import MESSAGE


class OpenView(APIView):
    # For whoever has no credential yet; one that is sent is not looked at.

    authentication_classes = ()
    permission_classes = (AllowAny,)


class Register(OpenView):
    """Make an account and sign in to it."""

    @extend_schema(request=RegistrationSerializer, responses={201: SIGNED_IN, 409: None})
    def post(self, request: Request) -> Response:
        serializer = RegistrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(_signed_in(request, register(**serializer.validated_data)), status=201)


class Login(OpenView):
    """Sign in with a password or with a token of Clerk's; the same at three addresses."""

    @extend_schema(
        request=PolymorphicProxySerializer(
            "SignIn", [LoginSerializer, ClerkSerializer], resource_type_field_name=None
        ),
        responses={200: SIGNED_IN, 401: None, 409: None},
    )
    def post(self, request: Request) -> Response:
        if "clerk_token" in request.data:
            return self._by_clerk(request)
        serializer = LoginSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        user = authenticate(
            request._request, username=given["identity"], password=given["password"]
        )
        if not isinstance(user, User):
            raise BadCredentials
        return Response(_signed_in(request, user))

    def _by_clerk(self, request: Request) -> Response:
        serializer = ClerkSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        person = clerk.verify(serializer.validated_data["clerk_token"])
        user = identities.account_of(person)
        session_id = sessions.begin(user)
        body = _signed_in(request, user, session_key=session_id)
        return Response({**body, "token": body["access_token"], "session_id": session_id})


class Refresh(OpenView):
    """Trade a refresh token for the next pair; both clients' names for the tokens are answered."""

    @extend_schema(request=RefreshSerializer, responses={200: TOKENS, 401: None})
    def post(self, request: Request) -> Response:
        serializer = RefreshSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        _, pair = tokens.rotate(serializer.validated_data["refresh_token"])
        return Response({"token": pair.access, **_pair(pair)})


class Logout(APIView):
    """End the sign-in that the presented credential belongs to."""

    permission_classes = (IsAuthenticated, InScope)

    @extend_schema(request=None, responses=MESSAGE)
    def post(self, request: Request) -> Response:
        if isinstance(request.auth, AccessKey):
            raise NoSession
        session = request._request.session
        if isinstance(request.auth, TokenFamily):
            tokens.revoke(request.auth)
        elif session.session_key:
            for family in TokenFamily.objects.filter(session_key=session.session_key):
                tokens.revoke(family)
        if session.get(SESSION_KEY) == str(request.user.pk):
            session.flush()
        return Response({"message": "Logged out successfully"})


class Profile(APIView):
    """The own account, for every role."""

    permission_classes = (IsAuthenticated, InScope)

    @extend_schema(responses=AccountSerializer)
    def get(self, request: Request) -> Response:
        return Response(UserSerializer(cast("User", request.user)).data)

    @extend_schema(request=ProfileSerializer, responses=AccountSerializer)
    def put(self, request: Request) -> Response:
        serializer = ProfileSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user, given = cast("User", request.user), serializer.validated_data
        if given.get("email", user.email).lower() != user.email.lower():
            # The answer tells whether an address has an account: as many tries as signing up has.
            limit_authentication(request._request, str(user.pk))
        return Response(UserSerializer(profile.edit(user, **given)).data)


class Clerk(APIView):
    """Let a Clerk account sign in to the own one."""

    permission_classes = (IsAuthenticated, NotByAccessKey)

    @extend_schema(request=ClerkSerializer, responses={200: MESSAGE, 409: None})
    def post(self, request: Request) -> Response:
        serializer = ClerkSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        person = clerk.verify(serializer.validated_data["clerk_token"])
        identities.connect(cast("User", request.user), person)
        return Response({"message": "Clerk account connected successfully"})


class AccessKeys(mixins.ListModelMixin, GenericViewSet[AccessKey]):
    """The own access keys, for every role: a key can do no more than its account."""

    permission_classes = (IsAuthenticated, NotByAccessKey)
    serializer_class = AccessKeySerializer
    plural = "access_keys"

    def get_queryset(self) -> Any:
        return AccessKey.objects.visible_to(self.request.user)

    @extend_schema(responses={201: NewAccessKeySerializer})
    def create(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        key, text = keys.create(user=cast("User", request.user), **serializer.validated_data)
        return Response({**self.get_serializer(key).data, "key": text}, status=201)

    @extend_schema(responses={200: MESSAGE})
    def revoke(self, request: Request, key_id: uuid.UUID) -> Response:
        key: AccessKey = get_object_or_404(self.get_queryset(), pk=key_id)
        key.revoke(at=timezone.now())
        return Response({"message": "Access key revoked"})


def _signed_in(request: Request, user: User, *, session_key: str = "") -> dict[str, Any]:
    """Begin a family for the user and return the body that every sign-in answers with."""
    update_last_login(User, user)
    pair = tokens.begin(
        user,
        address=_address(request),
        user_agent=request.headers.get("User-Agent", ""),
        session_key=session_key,
    )
    return {**_pair(pair), "user": UserSerializer(user).data}


def _pair(pair: tokens.Pair) -> dict[str, Any]:
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "bearer",
        "expires_in": pair.expires_in,
    }


def _address(request: Request) -> str | None:
    address = client_address(request._request)
    return None if address == "unknown" else address
