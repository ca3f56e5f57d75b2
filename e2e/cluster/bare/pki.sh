# shellcheck shell=bash
# Certificates and kubeconfigs of a new cluster, under PKI and RUN (elliptic curve keys, valid for 30 days). Source it.

key() { [ -f "$PKI/$1.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key"; }

authority() { # authority NAME
	key "$1"
	openssl req -x509 -new -key "$PKI/$1.key" -subj "/CN=$1" -days 30 -out "$PKI/$1.crt" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

certificate() { # certificate NAME AUTHORITY SUBJECT [NAMES]
	key "$1"
	openssl req -new -key "$PKI/$1.key" -subj "$3" | openssl x509 -req -CA "$PKI/$2.crt" -CAkey "$PKI/$2.key" \
		-set_serial "0x$(openssl rand -hex 8)" -days 30 -out "$PKI/$1.crt" -extfile <(
		echo "basicConstraints=CA:FALSE"
		echo "extendedKeyUsage=serverAuth,clientAuth"
		[ -z "${4:-}" ] || echo "subjectAltName=$4"
	) 2>/dev/null
}

kubeconfig() { # kubeconfig NAME: of the certificate of that name
	cat >"$RUN/$1.kubeconfig" <<-YAML
		apiVersion: v1
		kind: Config
		clusters:
		- name: bare
		  cluster:
		    server: https://$NODE_IP:6443
		    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
		users:
		- name: $1
		  user:
		    client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
		    client-key-data: $(base64 -w0 "$PKI/$1.key")
		contexts:
		- name: bare
		  context: {cluster: bare, user: $1}
		current-context: bare
	YAML
}

make_pki() {
	local name service=kubernetes.default.svc
	mkdir -p "$PKI"
	authority ca
	authority front-proxy-ca
	key sa
	openssl ec -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
	certificate apiserver ca /CN=kube-apiserver \
		"DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,IP:127.0.0.1,IP:$API_IP,IP:$NODE_IP"
	certificate front-proxy front-proxy-ca /CN=front-proxy-client
	certificate kubelet-client ca /O=system:masters/CN=apiserver-kubelet-client
	certificate kubelet ca "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
	certificate admin ca /O=system:masters/CN=admin
	certificate controller-manager ca /CN=system:kube-controller-manager
	certificate scheduler ca /CN=system:kube-scheduler
	certificate proxy ca /CN=system:kube-proxy
	for name in kubelet admin controller-manager scheduler proxy; do kubeconfig $name; done
}
